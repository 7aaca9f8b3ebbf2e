package server

import (
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
)

const wildcard = "*"

// delta takes a request of an incremental stream. An error ends the stream.
//
// Source: https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol#incremental-xds
func (m *machine) delta(req *discoveryv3.DeltaDiscoveryRequest, now time.Time) ([]*response, error) {
	if err := m.meet(req.GetNode()); err != nil {
		return nil, err
	}
	sub, first, err := m.subscription(req.GetTypeUrl())
	if sub == nil {
		return nil, err
	}
	m.acknowledge(req.GetResponseNonce(), req.GetErrorDetail(), now)

	// Names count whatever the nonce. Leaving comes first: a name in both lists is asked for afresh.
	for _, name := range req.GetResourceNamesUnsubscribe() {
		if e := sub.names[name]; e != nil {
			m.drop(e, now)
		}
	}
	if first && len(req.GetResourceNamesSubscribe()) == 0 {
		m.env.counters.wildcards.Add(1)
	}
	if err := m.room(sub, req.GetResourceNamesSubscribe()); err != nil {
		return nil, err
	}
	var claims map[string]string
	if first {
		claims = req.GetInitialResourceVersions()
	}
	for _, name := range req.GetResourceNamesSubscribe() {
		e := sub.names[name]
		switch {
		case name == wildcard:
			m.env.counters.wildcards.Add(1)
		case name == "" || len(name) > m.env.limits.nameLen:
			m.refused = append(m.refused, answer{sub, name})
		case e != nil:
			e.again = true
			m.look(e)
		default:
			if _, err := m.subscribe(sub, name, claims[name], now); err != nil {
				return nil, err
			}
		}
	}
	return m.flush(now), nil
}

// room refuses a list that would exceed the names of a stream before anything is spent on it.
func (m *machine) room(sub *subscription, names []string) error {
	limit := m.env.limits.names
	if m.names+len(names) <= limit {
		return nil
	}
	fresh := 0
	for _, name := range names {
		if sub.names[name] == nil {
			fresh++
		}
	}
	if m.names+fresh > limit {
		return tooMany(limit)
	}
	return nil
}
