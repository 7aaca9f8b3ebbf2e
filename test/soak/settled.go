package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/lockstep-tls/lockstep/probe"
	"github.com/lockstep-tls/lockstep/test/traffic"
)

// status is `lockstep status -o json`.
type status struct {
	Scopes   []struct{ Scope, Version string }
	Replicas []struct{ Replica, State string }
	Degraded []string
}

// node is one of `lockstep nodes -o json`.
type node struct {
	Node, Replica, State string
	Replicas             []string // Replicas are empty if Replica is the only one.
	Secrets              []struct{ Name, Version, State string }
}

// at reports whether the node has a stream at that replica.
func (n node) at(replica string) bool {
	return n.Replica == replica || slices.Contains(n.Replicas, replica)
}

// settled waits until all is well at either replica, and every Envoy has the ring in force. Then
// the tickets that Envoys gave before must resume at others.
func (s *stage) settled(ctx context.Context, r *rand.Rand) error {
	waits, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	if err := until(waits, func() error { return s.well(waits) }); err != nil {
		return fmt.Errorf("it is not well afterwards: %w", err)
	}
	return s.tickets(ctx, r)
}

func (s *stage) well(ctx context.Context) error {
	version := ""
	for _, p := range s.planes {
		var st status
		if err := s.show(ctx, p, &st, "status"); err != nil {
			return err
		}
		alive := 0
		for _, one := range st.Replicas {
			if one.State == "here" || one.State == "live" {
				alive++
			}
		}
		switch {
		case alive != len(s.planes) || len(st.Replicas) != len(s.planes):
			return fmt.Errorf("%s knows the replicas %v", p.Name(), st.Replicas)
		case len(st.Degraded) > 0:
			return fmt.Errorf("%s is degraded: %s", p.Name(), strings.Join(st.Degraded, "; "))
		case version != "" && st.Scopes[0].Version != version:
			return fmt.Errorf("%s has the ring %s, another replica %s", p.Name(), st.Scopes[0].Version, version)
		}
		version = st.Scopes[0].Version
	}
	nodes, err := s.nodes(ctx)
	if err != nil {
		return err
	}
	for _, e := range s.envoys {
		n := nodes[e.name]
		i := slices.IndexFunc(n.Secrets, func(s struct{ Name, Version, State string }) bool { return s.Name == ring })
		if n.State != "live" || i < 0 || n.Secrets[i].Version != version ||
			!slices.Contains([]string{"accepted", "proved"}, n.Secrets[i].State) {
			return fmt.Errorf("the ring in force is %s, and %s is %+v", version, e.name, n)
		}
		for _, host := range s.hosts {
			got, err := probe.Dial(ctx, e.listen, probe.Config{SNI: host, RootCAs: s.roots}, nil)
			if err == nil && !bytes.Equal(got.Leaf.Raw, s.leaves[host]) {
				err = fmt.Errorf("%s serves another certificate of %s than the newest", e.name, host)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// nodes are those that are connected, by id.
func (s *stage) nodes(ctx context.Context) (map[string]node, error) {
	var said struct{ Nodes []node }
	err := s.show(ctx, s.planes[0], &said, "nodes")
	all := map[string]node{}
	for _, n := range said.Nodes {
		all[n.Node] = n
	}
	return all, err
}

// ticket is a session that an Envoy has given.
type ticket struct {
	from, host string
	version    uint16
	session    *probe.Session
}

// tickets offers each ticket to the next Envoy, which must take it while it is live. Then it has
// every Envoy give new ones, of one host each.
func (s *stage) tickets(ctx context.Context, r *rand.Rand) error {
	var refused []string
	for _, t := range s.held {
		to := s.next(t.from)
		_, how := s.clients.Dial(ctx, t.version, to, t.host, t.session)
		if how == traffic.Refused || how == traffic.Failed {
			refused = append(refused, fmt.Sprintf("%s of %s at %s", traffic.Kinds[t.version], t.from, to))
		}
	}
	if len(refused) > 0 {
		_, words := s.clients.Counts()
		return fmt.Errorf("live tickets do not resume: %s: %s", strings.Join(refused, ", "), strings.Join(words, "; "))
	}
	s.held = nil
	for _, e := range s.envoys {
		host := s.hosts[r.IntN(len(s.hosts))]
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			session, how := s.clients.Dial(ctx, version, e.name, host, nil)
			if session == nil {
				_, words := s.clients.Counts()
				return errors.Join(ctx.Err(), fmt.Errorf("%s gives no ticket of %s (%v): %s", e.name, host, how,
					strings.Join(words, "; ")))
			}
			s.held = append(s.held, ticket{e.name, host, version, session})
		}
	}
	return nil
}

// next is the Envoy after that one.
func (s *stage) next(name string) string {
	i := slices.IndexFunc(s.envoys, func(e *envoy) bool { return e.name == name })
	return s.envoys[(i+1)%len(s.envoys)].name
}

// voids drops tickets that end by what was done: those of one host, or all.
func (s *stage) voids(host string) {
	s.held = slices.DeleteFunc(s.held, func(t ticket) bool { return host == "" || t.host == host })
}

// counts is the account of the handshakes, by their kind.
func (s *stage) counts() map[string]traffic.Count {
	out := map[string]traffic.Count{}
	all, _ := s.clients.Counts()
	for version, c := range all {
		out[traffic.Kinds[version]] = c
	}
	return out
}
