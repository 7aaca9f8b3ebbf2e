package fleet

import (
	"errors"
	"fmt"
	"math/rand"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/rotation"
)

// issued is a ticket of a key, by its fingerprint.
type issued struct {
	key   string
	until time.Time
	by    string
}

// lifetimeWorld is two replicas whose ticket_lifetimes change in every way, with a node at each.
type lifetimeWorld struct {
	*testing.T
	rnd    *rand.Rand
	stores []*faulty
	planes []*plane
	nodes  []*client
	at     []int // at says at which replica each node is.
	rings  map[uint64]keysource.Ring
	out    []issued
	story  []string
}

func (w *lifetimeWorld) did(format string, a ...any) {
	w.story = append(w.story, time.Now().Format("04:05 ")+fmt.Sprintf(format, a...))
}

func (w *lifetimeWorld) lifetime() time.Duration {
	return time.Duration(1+w.rnd.Intn(30)) * time.Minute
}

// held is the newest generation that a node accepted, or 0.
func (c *client) held() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.had) == 0 {
		return 0
	}
	return c.had[len(c.had)-1]
}

// moves has a node come to a replica, with what it holds.
func (w *lifetimeWorld) moves(node, to int) {
	holds := w.nodes[node].held()
	version := ""
	if holds > 0 {
		version = w.rings[holds].Version()
	}
	c := w.planes[to].connect(fmt.Sprint("node-", node), version)
	if holds > 0 {
		c.mu.Lock()
		c.had = append([]uint64{holds}, c.had...)
		c.mu.Unlock()
	}
	w.nodes[node], w.at[node] = c, to
	synctest.Wait()
}

// look notes the rings, has each node issue a ticket, and checks those that are out.
func (w *lifetimeWorld) look() {
	w.Helper()
	synctest.Wait()
	for _, p := range w.planes {
		if r := p.Current("default"); r != nil {
			w.rings[r.Generation] = *r
		}
	}
	stored, _ := w.stores[0].rollout(w.T)
	w.rings[stored.Generation] = stored.Ring()
	now := time.Now()
	for _, t := range w.out {
		if now.Before(t.until) && !slices.ContainsFunc(stored.Ring().Keys,
			func(k keysource.TicketKey) bool { return k.Fingerprint() == t.key }) {
			for _, line := range w.story {
				w.Log(line)
			}
			w.Fatalf("g%d lacks the key of a ticket of %s that is good for %s more",
				stored.Generation, t.by, t.until.Sub(now))
		}
	}
	w.out = slices.DeleteFunc(w.out, func(t issued) bool { return !now.Before(t.until) })
	for i, n := range w.nodes {
		ring, known := w.rings[n.held()]
		if told := w.planes[w.at[i]].TicketLifetime("default"); known && told > 0 {
			w.out = append(w.out, issued{ring.Keys[0].Fingerprint(), now.Add(told), fmt.Sprintf("%s, g%d, told %s",
				n.name, ring.Generation, told)})
		}
	}
}

// begins starts a replica that has ended, with another lifetime.
func (w *lifetimeWorld) begins(i int) {
	d := w.lifetime()
	w.did("%s starts with %s", w.planes[i].replica, d)
	w.planes[i] = start(w.T, w.stores[i], w.planes[i].replica, lasts(d))
	for n, at := range w.at {
		if at == i {
			w.moves(n, i)
		}
	}
}

func (w *lifetimeWorld) step() {
	i := w.rnd.Intn(len(w.planes))
	p := w.planes[i]
	switch w.rnd.Intn(7) {
	case 0:
		d := w.lifetime()
		w.did("%s reloads %s", p.replica, d)
		p.reload(d)
	case 1, 2:
		kill := w.rnd.Intn(2) == 0
		w.did("%s ends, by a kill: %v", p.replica, kill)
		if kill {
			p.kill()
		} else {
			p.stop()
		}
		if w.rnd.Intn(2) == 0 { // its nodes go to the other one, which may be alone for long
			for n, at := range w.at {
				if at == i {
					w.moves(n, 1-i)
				}
			}
			w.look()
			time.Sleep(time.Duration(w.rnd.Intn(300)) * time.Second)
			w.look()
		}
		w.begins(i)
	case 3:
		w.did("a node moves to %s", p.replica)
		n := w.rnd.Intn(len(w.nodes))
		w.planes[w.at[n]].disconnect(w.nodes[n])
		w.moves(n, i)
	case 4:
		d := w.lifetime()
		w.did("the store is away, and %s reloads %s", p.replica, d)
		for _, s := range w.stores {
			s.set(down, nil)
		}
		p.reload(d)
		for range 3 {
			w.look()
			time.Sleep(time.Duration(w.rnd.Intn(100)) * time.Second)
		}
		if w.rnd.Intn(2) == 0 {
			w.did("%s is killed meanwhile", p.replica)
			p.kill()
		}
		for _, s := range w.stores {
			s.set(nil, nil)
		}
		if p.ended {
			w.begins(i)
		}
		time.Sleep(2 * retryAfter)
	default:
		w.did("%s rotates", p.replica)
		_, err := p.Rotate(w.Context(), "default", rotation.Request{})
		if err != nil && !errors.Is(err, rotation.ErrRefused) { // there may be no room
			w.Fatal(err)
		}
	}
}

// P1, while ticket_lifetime changes by reloads, restarts and outages at two replicas. Whatever
// ticket a node has issued, its key stays in the ring for as long as the node was told.
func TestNoTicketIsLostHoweverLifetimesChange(t *testing.T) {
	seeds := []int64{2, 14, 17, 0, 1, 4, 8, 19}
	if raced {
		seeds = seeds[:2]
	}
	for _, seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newFaulty()
				w := &lifetimeWorld{
					T: t, rnd: rand.New(rand.NewSource(seed)), stores: []*faulty{s, s.another()},
					rings: map[uint64]keysource.Ring{},
				}
				for i, s := range w.stores {
					w.planes = append(w.planes, start(t, s, fmt.Sprint("r", i), lasts(w.lifetime())))
					w.nodes = append(w.nodes, w.planes[i].connect(fmt.Sprint("node-", i), ""))
					w.at = append(w.at, i)
				}
				for range 60 {
					w.look()
					w.step()
					for range w.rnd.Intn(6) {
						w.look()
						time.Sleep(time.Duration(w.rnd.Intn(120)) * time.Second)
					}
				}
			})
		})
	}
}
