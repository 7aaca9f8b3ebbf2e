package fleet

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-tls/lockstep/rotation"
	"github.com/lockstep-tls/lockstep/store"
)

// lasts is the configuration of a replica with another ticket_lifetime.
func lasts(d time.Duration) func(*Config) {
	return func(c *Config) {
		p := testPolicy()
		p.TicketLifetime = d
		c.Scopes = map[string]rotation.Policy{"default": p}
	}
}

// toldNodes keeps what a replica had its nodes told.
type toldNodes struct {
	mu  sync.Mutex
	all []time.Duration
}

func tells(n *toldNodes, p **plane) func(*Config) {
	return func(c *Config) {
		c.Lifetime = func(scope string) {
			d := (*p).TicketLifetime(scope)
			n.mu.Lock()
			defer n.mu.Unlock()
			n.all = append(n.all, d)
		}
	}
}

func (n *toldNodes) String() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return fmt.Sprint(n.all)
}

func (p *plane) reload(d time.Duration) {
	p.t.Helper()
	policy := testPolicy()
	policy.TicketLifetime = d
	if err := p.SetPolicy("default", policy); err != nil {
		p.t.Fatal(err)
	}
	synctest.Wait()
}

// drains compares for how long from now on the key decrypts that encrypted last, less its margin.
func (p *plane) drains(want time.Duration) {
	p.t.Helper()
	st := p.status()
	if len(st.Keys) < 2 {
		p.t.Fatalf("nothing drains: %+v", st.Keys)
	}
	got := st.Keys[1].RetiresAt.Sub(st.Now)
	if got < want-time.Minute || got > want+want/30 {
		p.t.Fatalf("replica %s: the key drains for %s more, want %s", p.replica, got, want)
	}
}

// While the store is away a longer lifetime reaches no node: tickets that are good for so long are
// made only once the store knows that their keys are kept for as long.
func TestALongerLifetimeReachesNodesOnceTheStoreHasIt(t *testing.T) {
	for name, part := range map[string]string{
		"the store is away": "", "the ring cannot be written": "ring/", "the lifetimes cannot be written": "lifetime/",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newFaulty()
				var told toldNodes
				var p *plane
				p = prepare(t, s, "r1", tells(&told, &p))
				p.run()
				p.connect("a", "")
				p.phase(time.Second, rotation.Steady, 1)
				s.set(func(_ context.Context, op, key string) error {
					if part == "" || op == "swap" && strings.HasPrefix(key, part) {
						return errDown
					}
					return nil
				}, nil)
				p.reload(5 * time.Hour)
				time.Sleep(20 * time.Minute)
				if told.String() != "[1h0m0s]" || p.status().TicketLifetime != time.Hour {
					t.Fatalf("the store does not know of it, and nodes were told %s", &told)
				}
				p.reload(30 * time.Minute) // a shorter one needs no store
				p.reload(5 * time.Hour)
				if told.String() != "[1h0m0s 30m0s]" {
					t.Fatalf("nodes were told %s", &told)
				}
				s.set(nil, nil)
				time.Sleep(10 * time.Second)
				if told.String() != "[1h0m0s 30m0s 5h0m0s]" {
					t.Fatalf("nodes were told %s", &told)
				}
				p.rotate()
				p.phase(time.Second, rotation.Steady, 3)
				p.drains(5 * time.Hour)
			})
		})
	}
}

// A restart with another lifetime is a change like any other: the keys of before drain by the
// longer one, and nodes are told of a longer one when the store has it.
func TestALifetimeThatARestartChangesIsAChange(t *testing.T) {
	for _, c := range []struct{ before, after, first, second time.Duration }{
		{4 * time.Hour, time.Hour, 4 * time.Hour, time.Hour},
		{time.Hour, 4 * time.Hour, 4 * time.Hour, 4 * time.Hour},
	} {
		t.Run(fmt.Sprint(c.before, " ", c.after), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newFaulty()
				one := start(t, s, "r1", alone, lasts(c.before))
				one.connect("a", "")
				one.phase(time.Second, rotation.Steady, 1)
				version := one.status().Version
				if r, _ := s.rollout(t); r.Lifetimes != nil {
					t.Fatalf("earlier versions refuse a record with %v", r.Lifetimes)
				}
				one.stop()
				two := start(t, s, "r1", alone, lasts(c.after))
				if got := two.TicketLifetime("default"); got != c.after {
					t.Errorf("nodes are told %s", got)
				}
				two.connect("a", version)
				time.Sleep(10 * time.Minute)
				two.rotate()
				two.phase(time.Second, rotation.Steady, 3)
				two.drains(c.first)
				time.Sleep(10 * time.Minute)
				two.rotate()
				two.phase(time.Second, rotation.Steady, 5)
				two.drains(c.second)
			})
		})
	}
}

// A start in a store that takes no change is told of a longer lifetime later.
func TestAStartWithALongerLifetimeWaitsForTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFaulty()
		start(t, s, "r1", alone).stop()
		s.set(func(_ context.Context, op, key string) error {
			if op == "swap" && !strings.HasPrefix(key, "roster/") {
				return fmt.Errorf("%s was not written: %w", key, store.ErrFrozen)
			}
			return nil
		}, nil)
		one := start(t, s, "r1", alone, lasts(4*time.Hour))
		time.Sleep(time.Minute)
		if got := one.TicketLifetime("default"); got != time.Hour {
			t.Fatalf("nodes are told %s", got)
		}
		s.set(nil, nil)
		time.Sleep(10 * time.Second)
		if got := one.TicketLifetime("default"); got != 4*time.Hour {
			t.Fatalf("nodes are told %s", got)
		}
	})
}

// The longest lifetime of any live replica holds for the keys of all, and for those that it made
// after it has ended. Each says which are in force.
func TestTheLongestLifetimeOfAnyReplicaHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFaulty()
		one, two := start(t, s, "r1"), start(t, s, "r2", lasts(4*time.Hour))
		a := one.connect("a", "")
		two.connect("b", "")
		time.Sleep(10 * time.Second)
		if got := one.status().Lifetimes; got["r1"] != time.Hour || got["r2"] != 4*time.Hour {
			t.Fatalf("%v", got)
		}
		generation := uint64(1)
		rotate := func(p *plane, want time.Duration) {
			t.Helper()
			generation += 2
			p.rotate()
			time.Sleep(10 * time.Second)
			p.phase(0, rotation.Steady, generation)
			p.drains(want)
		}
		rotate(one, 4*time.Hour)
		rotate(one, 4*time.Hour) // a key that the one with the shorter lifetime has made
		two.kill()
		rotateAlone := func(after, want time.Duration) {
			t.Helper()
			time.Sleep(after)
			generation += 2
			one.rotate()
			time.Sleep(5 * time.Second)
			one.phase(silentFor+2*testPolicy().NodeLease, rotation.Steady, generation)
			if one.status().Keys[1].RetiresAt.Sub(one.status().Now) > want {
				t.Errorf("%+v", one.status().Keys)
			}
		}
		rotateAlone(0, 4*time.Hour+5*time.Minute)
		if r, _ := s.rollout(t); r.Lifetimes[r.Keys[1].Key.Fingerprint()] != 4*time.Hour {
			t.Errorf("the key that the nodes of the killed one had: %v", r.Lifetimes)
		}
		// The next key came while the nodes of the killed one could be back.
		rotateAlone(time.Minute, 4*time.Hour+5*time.Minute)
		// Nobody has the longer lifetime any more.
		rotateAlone(time.Minute, time.Hour+time.Minute+time.Second)
		if got := one.status().Lifetimes; len(got) != 1 || a.got() == "" {
			t.Errorf("%v, %s", got, a.got())
		}
	})
}

// What cannot be read is written anew, and fields of later versions stay.
func TestTheRecordOfLifetimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFaulty()
		one := start(t, s, "r1", alone)
		put := func(val string) {
			t.Helper()
			_, rev, err := s.Store.Get(t.Context(), "lifetime/default")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Store.Swap(t.Context(), "lifetime/default", rev, []byte(val)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * testPolicy().NodeLease)
		}
		for val, want := range map[string]string{
			`nonsense`:                                      `{"ticket_lifetimes":{"r1":3600000000000}}`,
			`{"ticket_lifetimes":null,"later":1}`:           `{"ticket_lifetimes":{"r1":3600000000000}}`,
			`{"ticket_lifetimes":{"r1":-5,"x":1}}`:          `{"ticket_lifetimes":{"r1":3600000000000}}`,
			`{"later":[1],"ticket_lifetimes":{}}`:           `{"later":[1],"ticket_lifetimes":{"r1":3600000000000}}`,
			`{"ticket_lifetimes":{"r9":99999999999999999}}`: `{"ticket_lifetimes":{"r1":3600000000000}}`,
		} {
			put(val)
			if got, _, err := s.Store.Get(t.Context(), "lifetime/default"); err != nil || string(got) != want {
				t.Errorf("after %s it is %s, want %s; %v", val, got, want, err)
			}
		}
		if st := one.status(); st.Err != nil || st.TicketLifetime != time.Hour {
			t.Errorf("%+v", st)
		}
	})
}
