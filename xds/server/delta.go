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
	var claims map[string]string
	if first {
		claims = req.GetInitialResourceVersions()
	}
	subscribe := req.GetResourceNamesSubscribe()
	if !sub.demand && (first && len(subscribe) == 0 || slices.Contains(subscribe, wildcard)) { // on demand a "*" is what a client sent, and waits for an answer
		subscribe = m.everything(sub, subscribe, claims)
	}
	if !sub.demand { // on demand clients choose the names, and a stream that ends lists them all again
		if err := m.room(sub, subscribe); err != nil {
			return nil, err
		}
	}
	for _, name := range subscribe {
		e := sub.names[name]
		switch {
		case !utf8.ValidString(name): // no protobuf can say that it is absent: Envoy ends a stream that brings the name back to it
			m.env.counters.badNames.Add(1)
		case name == "" || name == wildcard || len(name) > m.env.limits.nameLen:
			m.refused = append(m.refused, answer{sub, name})
		case e != nil:
			e.again = true
			m.look(e)
		case sub.demand && (m.names == m.env.limits.names || m.wire+wireSize(name) > m.env.limits.wire):
			m.refused = append(m.refused, answer{sub, name}) // the node unsubscribes, and a client that comes again finds room
		default:
			if _, err := m.subscribe(sub, name, claims[name], first, now); err != nil {
				return nil, err
			}
		}
	}
	return m.flush(now), nil
}

// everything spells out a subscription to all names. What the node still holds of others is no longer there.
func (m *machine) everything(sub *subscription, names []string, claims map[string]string) []string {
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
		m.refused = append(m.refused, answer{sub, name})
	}
	return names
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
