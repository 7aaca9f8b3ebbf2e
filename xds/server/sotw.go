package server

import (
	"slices"
	"time"
	"unicode/utf8"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
)

// stateOfTheWorld takes a request of a state-of-the-world stream. An error ends the stream.
//
// Source: https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol#basic-protocol-overview
func (m *machine) stateOfTheWorld(req *discoveryv3.DiscoveryRequest, now time.Time) ([]*response, error) {
	if err := m.learnNode(req.GetNode()); err != nil {
		return nil, err
	}
	sub, first, err := m.subscription(req.GetTypeUrl())
	if sub == nil {
		return nil, err
	}
	m.acknowledge(req.GetResponseNonce(), req.GetErrorDetail(), now)

	names := req.GetResourceNames()
	if first && len(names) == 0 {
		m.env.counters.wildcards.Add(1)
	}
	if !slices.Equal(names, sub.list) { // an ACK repeats the list of names
		var claim string
		// With several names the version does not say to which of them it belongs.
		if first && len(names) == 1 {
			claim = req.GetVersionInfo()
		}
		if err := m.relist(sub, names, claim, first, now); err != nil {
			return nil, err
		}
	}
	return m.flush(now), nil
}

// relist makes names the whole subscription.
func (m *machine) relist(sub *subscription, names []string, claim string, first bool, now time.Time) error {
	sub.list = names
	sub.round++
	listed := 0
	var fresh []string
	for _, name := range names {
		switch e := sub.names[name]; {
		case name == wildcard:
			m.env.counters.wildcards.Add(1)
		case name == "" || len(name) > m.env.limits.nameLen || !utf8.ValidString(name): // absent
		case e == nil:
			fresh = append(fresh, name)
		case e.round != sub.round:
			e.round = sub.round
			listed++
		}
	}
	if listed < len(sub.names) {
		for _, e := range sub.names {
			if e.round != sub.round {
				m.drop(e, now)
			}
		}
	}
	if m.names+len(fresh) > m.env.limits.names {
		return tooMany(m.env.limits.names)
	}
	for _, name := range fresh {
		if sub.names[name] != nil {
			continue // listed twice
		}
		e, err := m.subscribe(sub, name, claim, first, now)
		if err != nil {
			return err
		}
		e.round = sub.round
	}
	return nil
}
