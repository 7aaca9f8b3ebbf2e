package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/lockstep-tls/lockstep/probe"
	"github.com/lockstep-tls/lockstep/test/fleet"
	"github.com/lockstep-tls/lockstep/test/traffic"
)

// turned is what a rotation under traffic showed.
type turned struct {
	before, after   probe.Matrix
	offered         int // live tickets, of both TLS versions
	refused, failed int // of these tickets; handshakes
	words           []string
}

// ok reports whether each session resumed at each node, and no client noticed the rotation.
func (t turned) ok() bool {
	return t.before.OK() && t.after.OK() && t.offered > 0 && t.refused == 0 && t.failed == 0
}

// why returns the first thing that went otherwise than it must.
func (t turned) why() string {
	if len(t.words) > 0 {
		return t.words[0]
	}
	for _, m := range []probe.Matrix{t.before, t.after} {
		for _, p := range m.Pairs {
			if p.Outcome != probe.Resumed {
				return fmt.Sprintf("%s, from %s to %s: %s %s",
					tls.VersionName(p.Version), p.From, p.To, p.Outcome, p.Words)
			}
		}
	}
	return ""
}

// count returns how many of the pairs that take part resumed.
func count(pairs []probe.Pair, takesPart func(probe.Pair) bool) (resumed, all int) {
	for _, p := range pairs {
		if !takesPart(p) {
			continue
		}
		all++
		if p.Outcome == probe.Resumed {
			resumed++
		}
	}
	return resumed, all
}

// tryRotation rotates the keys of two Envoys once, under clients that move between them.
func tryRotation(ctx context.Context, s *stage, r *row) (cell, error) {
	var nodes []*node
	for i := range 2 {
		n, err := s.envoy(ctx, r.binary, fmt.Sprintf("rotation-%d", i+1), s.plane.XDS,
			"--host", eagerHost, "--host", laterHost)
		if err != nil {
			return cell{}, err
		}
		nodes = append(nodes, n)
	}
	for _, n := range nodes {
		if words, err := n.serves(ctx); err != nil || words != "" {
			return no("%s", words), err
		}
	}
	t, err := s.turn(ctx, nodes)
	if err != nil {
		return no("%v", err), ctx.Err()
	}
	resumed, all := count(t.after.Pairs, func(probe.Pair) bool { return true })
	c := cell{OK: t.ok(), Why: t.why(), Says: fmt.Sprintf("%s: %d of %d live tickets refused, "+
		"%d of %d sessions resume afterwards", yes(t.ok()), t.refused, t.offered, resumed, all)}
	return c, errors.Join(nodes[0].Kill(), nodes[1].Kill())
}

// turn makes one whole rotation under traffic, until the old key has left the ring. It offers
// sessions of each node at each node before and after.
func (s *stage) turn(parent context.Context, nodes []*node) (t turned, err error) {
	ctx, cancel := context.WithTimeout(parent, 2*time.Minute)
	defer cancel()
	addrs := map[string]string{}
	verify := probe.Config{SNI: eagerHost, RootCAs: s.ca.Pool()}
	for _, n := range nodes {
		addrs[n.name] = n.addr
		verify.Addrs = append(verify.Addrs, n.addr)
	}
	if t.before, err = probe.Verify(ctx, verify); err != nil {
		return t, err
	}
	clients := traffic.New(traffic.Config{
		Nodes: addrs, Hosts: []string{eagerHost, laterHost}, Roots: s.ca.Pool(), Lifetime: lifetime,
		Workers: 2, Hops: 60, Pause: 2 * time.Millisecond,
	})
	running, halt := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		clients.Run(running)
	}()
	err = s.rotate(ctx, clients, len(nodes))
	halt()
	<-ended
	if err != nil {
		return t, err
	}
	if t.after, err = probe.Verify(ctx, verify); err != nil {
		return t, err
	}
	counts, words := clients.Counts()
	t.words = words
	for _, c := range counts {
		t.offered += c.Offered
		t.refused += c.Refused
		t.failed += c.Failed
	}
	return t, nil
}

// rotate waits until every node has made tickets with the key, rotates, waits for the same of the
// new key, and then until the old one has left.
func (s *stage) rotate(ctx context.Context, clients *traffic.Traffic, nodes int) error {
	if err := s.inUse(ctx, clients, nodes, 1); err != nil {
		return err
	}
	if _, err := s.lockstep(ctx, "rotate", "--wait", "--why", "compat"); err != nil {
		return err
	}
	if err := s.inUse(ctx, clients, nodes, 2); err != nil {
		return err
	}
	return s.inUse(ctx, clients, nodes, 1)
}

// inUse waits until the ring has so many keys, and every node has made tickets with the first one
// for clients of each TLS version.
func (s *stage) inUse(ctx context.Context, clients *traffic.Traffic, nodes, keys int) error {
	return fleet.Until(ctx, func() error {
		ring, err := s.ring(ctx)
		if err != nil {
			return err
		}
		if len(ring) != keys {
			return fmt.Errorf("the ring has %d keys, want %d: %v", len(ring), keys, ring)
		}
		for _, k := range ring {
			if k.Role != "encrypt" {
				continue
			}
			for version, names := range clients.Makers(k.ID) {
				if len(names) < nodes {
					return fmt.Errorf("%s: tickets of key %s were seen from %v only",
						traffic.Kinds[version], k.ID, names)
				}
			}
			if len(clients.Makers(k.ID)) < len(traffic.Kinds) {
				return fmt.Errorf("no tickets of key %s were seen yet", k.ID)
			}
		}
		return nil
	})
}

// key is a ticket key of the ring, as the CLI shows it.
type key struct{ ID, Role string }

func (s *stage) ring(ctx context.Context) ([]key, error) {
	out, err := s.lockstep(ctx, "-o", "json", "status")
	if err != nil {
		return nil, err
	}
	var status struct{ Scopes []struct{ Keys []key } }
	if err := json.Unmarshal(out, &status); err != nil {
		return nil, err
	}
	if len(status.Scopes) != 1 {
		return nil, fmt.Errorf("lockstepd has %d scopes", len(status.Scopes))
	}
	return status.Scopes[0].Keys, nil
}
