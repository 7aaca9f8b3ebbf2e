package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/lockstep-tls/lockstep/test/fleet"
	"github.com/lockstep-tls/lockstep/test/traffic"
)

// rotateUnderTraffic is the main story.
func (s *stage) rotateUnderTraffic(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 80*time.Second)
	defer cancel()
	if err := s.startTraffic(ctx); err != nil {
		return err
	}
	if err := s.newKeyInUse(ctx); err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{
		func(ctx context.Context) error {
			return s.rotation(ctx, 1, func() error { return s.lockstep(ctx, "rotate", "--wait", "--why", "demo") })
		},
		s.replaceCertificates,
		s.killControlPlane,
		func(ctx context.Context) error {
			return s.rotation(ctx, 2, func() error { return s.rotateOverNATS(ctx) })
		},
		s.killEnvoy,
		func(ctx context.Context) error {
			return s.rotation(ctx, 3, func() error { return s.lockstep(ctx, "rotate", "--wait", "--why", "demo") })
		},
		s.oldKeysLeave,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// breakUnderTraffic replaces every key at once, as a fleet without Lockstep does.
func (s *stage) breakUnderTraffic(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	if err := s.startTraffic(ctx); err != nil {
		return err
	}
	if err := s.newKeyInUse(ctx); err != nil {
		return err
	}
	time.Sleep(2 * time.Second)
	if err := s.lockstep(ctx, "burn", "--yes", "--wait", "--why", "demo-break"); err != nil {
		return err
	}
	s.say("every key was replaced at once")
	time.Sleep(3 * time.Second)
	return nil
}

// rotation starts one and, after each of its phases, offers the tickets of every key at every other
// node.
func (s *stage) rotation(ctx context.Context, n uint64, start func() error) error {
	_, old, err := s.keys(ctx)
	if err != nil {
		return err
	}
	s.say("rotation %d", n)
	s.crossed[n] = map[string]int{}
	started := make(chan error, 1)
	go func() { started <- start() }()
	seen := map[string]bool{}
	err = fleet.Until(ctx, func() error {
		lines, err := s.history(ctx)
		if err != nil {
			return err
		}
		for _, l := range lines {
			if l.Rotation != n || seen[l.What] {
				continue
			}
			seen[l.What] = true
			s.cross(ctx, n, l.What, old)
		}
		if !seen["done"] {
			return fmt.Errorf("rotation %d has not ended", n)
		}
		return nil
	})
	if err := errors.Join(err, <-started); err != nil {
		return err
	}
	if err := s.newKeyInUse(ctx); err != nil {
		return err
	}
	_, fresh, err := s.keys(ctx)
	if err != nil {
		return err
	}
	s.cross(ctx, n, "the new key's", fresh)
	s.say("rotation %d has ended", n)
	return nil
}

// cross offers the tickets made with a key at every other node of the same kind.
func (s *stage) cross(ctx context.Context, n uint64, phase, key string) {
	for _, p := range s.packs {
		offered, bad := p.traffic.Cross(ctx, []string{key})
		s.crossed[n][phase] += offered
		s.uncross = append(s.uncross, bad...)
		up := len(p.nodes)
		if want := len(traffic.Kinds) * up * (up - 1); offered < want {
			s.uncross = append(s.uncross, fmt.Sprintf("rotation %d, after %s, %s: "+
				"%d of %d tickets of key %s were offered", n, phase, p.what, offered, want, key))
		}
	}
}

// newKeyInUse waits until every node has made tickets with the encrypting key for both kinds of
// clients.
func (s *stage) newKeyInUse(ctx context.Context) error {
	_, key, err := s.keys(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return fleet.Until(ctx, func() error {
		for _, p := range s.packs {
			makers := p.traffic.Makers(key)
			for v, kind := range traffic.Kinds {
				if len(makers[v]) < len(p.nodes) {
					return fmt.Errorf("%s, %s: tickets of key %s were seen from %v only", p.what, kind, key, makers[v])
				}
			}
		}
		return nil
	})
}

// replaceCertificates renews two hosts and waits until each node serves the new ones.
func (s *stage) replaceCertificates(ctx context.Context) error {
	for _, host := range []string{s.names[3], s.names[7]} {
		before, err := s.serial(ctx, s.nodes[0], host)
		if err != nil {
			return err
		}
		began := time.Now()
		if err := s.renew(host); err != nil {
			return err
		}
		for _, n := range s.nodes {
			err := fleet.Until(ctx, func() error {
				if now, err := s.serial(ctx, n, host); err != nil || now == before {
					return fmt.Errorf("%s still serves the old certificate of %s: %w", n.name, host, err)
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
		s.say("the certificate of %s was replaced on all nodes within %s",
			host, time.Since(began).Round(time.Millisecond))
	}
	return nil
}

func (s *stage) serial(ctx context.Context, n *node, host string) (string, error) {
	d := tls.Dialer{Config: &tls.Config{ServerName: host, RootCAs: s.ca.Pool()}}
	conn, err := d.DialContext(ctx, "tcp", n.addr)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	return conn.(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber.String(), nil
}

func (s *stage) killControlPlane(ctx context.Context) error {
	if err := s.plane.Kill(); err != nil {
		return err
	}
	s.say("kill -9: lockstepd")
	time.Sleep(time.Second) // the fleet serves on
	began := time.Now()
	if err := s.plane.Restart(); err != nil {
		return err
	}
	err := fleet.Until(ctx, func() error {
		var st struct {
			Scopes []struct{ Nodes struct{ Accepted int } }
		}
		if err := s.get(ctx, "/v1/status", &st); err != nil {
			return err
		}
		if n := st.Scopes[0].Nodes.Accepted; n < len(s.nodes) {
			return fmt.Errorf("%d nodes are back", n)
		}
		return nil
	})
	s.say("lockstepd serves again and every node is back %s after its start", time.Since(began).Round(time.Millisecond))
	return err
}

func (s *stage) killEnvoy(ctx context.Context) error {
	p := s.packs[0]
	n := p.nodes[2]
	p.traffic.Down(n.name)
	if err := n.Kill(); err != nil {
		return err
	}
	s.say("kill -9: %s", n.name)
	time.Sleep(time.Second)
	if err := n.Restart(); err != nil {
		return err
	}
	if err := n.Ready(ctx); err != nil {
		return err
	}
	if err := fleet.Until(ctx, func() error {
		conn, err := net.Dial("tcp", n.addr)
		if err == nil {
			conn.Close()
		}
		return err
	}); err != nil {
		return err
	}
	p.traffic.Up(n.name)
	s.say("%s serves again", n.name)
	return s.newKeyInUse(ctx)
}

// oldKeysLeave waits until the drained keys are gone, and shows that tickets of the last one resume
// all the while.
func (s *stage) oldKeysLeave(ctx context.Context) error {
	return fleet.Until(ctx, func() error {
		ids, key, err := s.keys(ctx)
		if err != nil {
			return err
		}
		if len(ids) > 1 {
			return fmt.Errorf("%d keys drain", len(ids)-1)
		}
		s.crossed[3]["retired"] = 0
		s.cross(ctx, 3, "retired", key)
		s.say("the old keys have left the ring, %s after their last ticket", lifetime)
		return nil
	})
}

// counts lists the kinds in order.
func kinds() []uint16 {
	v := make([]uint16, 0, len(traffic.Kinds))
	for k := range traffic.Kinds {
		v = append(v, k)
	}
	slices.Sort(v)
	return v
}
