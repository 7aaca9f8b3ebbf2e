package server

import (
	"maps"
	"slices"
	"time"
	"unicode/utf8"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"github.com/lockstep-tls/lockstep/xds"
)

const wildcard = "*"

// delta takes a request of an incremental stream. An error ends the stream.
//
// Source: https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol#incremental-xds
func (m *machine) delta(req *discoveryv3.DeltaDiscoveryRequest, now time.Time) ([]*response, error) {
	if err := m.learnNode(req.GetNode()); err != nil {
		return nil, err
	}
	sub, first, err := m.subscription(req.GetTypeUrl())
	if sub == nil {
		return nil, err
	}
	m.acknowledge(req.GetResponseNonce(), req.GetErrorDetail(), now)

	// Names count whatever the nonce is. Unsubscriptions come first, so a name in both lists is a
	// new subscription.
	for _, name := range req.GetResourceNamesUnsubscribe() {
		if e := sub.names[name]; e != nil {
			m.drop(e, now)
		}
	}
	var claims map[string]string
	if first {
		claims = req.GetInitialResourceVersions()
	}
	subscribe := req.GetResourceNamesSubscribe()
	// On demand a "*" is a name that a client sent, and waits for an answer.
	if !sub.demand && (first && len(subscribe) == 0 || slices.Contains(subscribe, wildcard)) {
		subscribe = m.expandWildcard(sub, subscribe, claims)
	}
	// On demand clients choose the names. Ending the stream would not help: the node would list
	// them all again on the next one.
	if !sub.demand {
		if err := m.checkRoom(sub, subscribe); err != nil {
			return nil, err
		}
	}
	for _, name := range subscribe {
		e := sub.names[name]
		switch {
		// A removal cannot carry this name: Envoy would end the stream that brings invalid UTF-8
		// to it.
		case !utf8.ValidString(name):
			m.env.counters.badNames.Add(1)
		case name == "" || name == wildcard || len(name) > m.env.limits.nameLen:
			m.absentNames = append(m.absentNames, absentName{sub, name})
		case e != nil:
			e.again = true
			m.look(e)
		case sub.demand && (m.names == m.env.limits.names || m.wire+wireSize(name) > m.env.limits.wire):
			// The node unsubscribes, and a client that asks again later finds room.
			m.absentNames = append(m.absentNames, absentName{sub, name})
		default:
			if _, err := m.subscribe(sub, name, claims[name], first, now); err != nil {
				return nil, err
			}
		}
	}
	return m.flush(now), nil
}

// expandWildcard replaces a subscription to all names by the names themselves. Names that the node
// holds and that are not among them are answered with removal.
func (m *machine) expandWildcard(sub *subscription, names []string, claims map[string]string) []string {
	names = slices.DeleteFunc(slices.Clone(names), func(name string) bool { return name == wildcard })
	all, ok := sub.src.(xds.Wildcard)
	if !ok {
		m.env.counters.wildcards.Add(1)
		return names
	}
	names = append(names, all.All()...)
	gone := maps.Clone(claims)
	for _, name := range names {
		delete(gone, name)
	}
	for _, name := range slices.Sorted(maps.Keys(gone)) {
		m.absentNames = append(m.absentNames, absentName{sub, name})
	}
	return names
}

// checkRoom returns an error if names would exceed the limit of a stream. It is called before any
// work is done for the names.
func (m *machine) checkRoom(sub *subscription, names []string) error {
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
