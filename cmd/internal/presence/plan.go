package presence

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/recorder"
	"github.com/lockstep-tls/lockstep/events"
)

// deadAfter is for how long another replica must be unheard before its nodes count as away. Its
// roster counts for as long.
const deadAfter = 30 * time.Second

// plan is what a look writes, and tells once that is written, by key.
type plan struct {
	of     *Registry
	shards map[string]stored
	events map[string][]recorder.Entry
	left   map[string]map[string]node
	// dropped are the nodes that have left and are not remembered any more, for want of room.
	dropped map[string][]string
	crowd   int // crowd is how many nodes that are connected here find no room.
}

// plan compares the records with the nodes that are here and those that have left.
func (r *Registry) plan(now time.Time, here, left map[string]node) *plan {
	p := &plan{
		of: r, shards: map[string]stored{}, events: map[string][]recorder.Entry{}, left: map[string]map[string]node{},
		dropped: map[string][]string{},
	}
	offset := time.Until(now) // of the store's clock
	for id, n := range here {
		k, there := p.get(id)
		if there && k.Connected && (k.Replica == r.cfg.Replica || r.isAlive(k.Replica)) {
			continue
		}
		k.Replica, k.Connected, k.Gone, k.At = r.cfg.Replica, true, false, n.since.Add(offset)
		k.learn(n)
		p.put(id, k)
	}
	for id, n := range left {
		key := shardOf(id)
		if p.left[key] == nil {
			p.left[key] = map[string]node{}
		}
		p.left[key][id] = n
		k, there := p.get(id)
		if there && k.Replica != r.cfg.Replica { // it has gone to another replica
			// It took its ring along, so that one may have seen it accept none.
			if len(k.Rings) == 0 && len(n.rings) > 0 {
				k.learn(n)
				p.put(id, k)
			}
			continue
		}
		k.Replica, k.Connected, k.Gone, k.At = r.cfg.Replica, false, false, n.since.Add(offset)
		k.learn(n)
		p.put(id, k)
	}
	p.age(now, offset, here)
	return p
}

// age looks at every node of the records: what has become of those that nobody reports?
func (p *plan) age(now time.Time, offset time.Duration, here map[string]node) {
	r := p.of
	r.mu.Lock()
	all := maps.Clone(r.shards)
	r.mu.Unlock()
	maps.Copy(all, p.shards)
	lease, live := r.lease(), r.live()
	for _, key := range slices.Sorted(maps.Keys(all)) {
		for _, id := range slices.Sorted(maps.Keys(all[key].nodes)) {
			k, _ := p.get(id)
			_, isHere := here[id]
			switch {
			case isHere:
			case k.Connected && p.lost(k, lease, offset):
				k.Connected = false
				if k.At = r.started.Add(offset); k.Replica != r.cfg.Replica {
					k.At = r.absent[k.Replica].Add(offset)
				}
				p.put(id, k)
			case k.Connected || live[id]:
			case now.Sub(k.At) > rememberFor:
				p.remove(id)
			case !k.Gone && now.Sub(k.At) > lease:
				k.Gone = true
				p.put(id, k)
				p.events[key] = append(p.events[key], recorder.Entry{Level: slog.LevelWarn, Event: events.Event{
					Kind: events.NodeGone, Node: id, At: time.Now(), Text: fmt.Sprintf(
						"node %s is gone: it went away at %s, and has not come back for longer than its lease of %s",
						id, k.At.UTC().Format(time.RFC3339), lease),
				}})
			}
		}
	}
}

// lost reports that a node which stands as connected is not: this replica was restarted since, or
// the other one is not heard of.
func (p *plan) lost(k known, lease, offset time.Duration) bool {
	r := p.of
	if k.Replica == r.cfg.Replica {
		return time.Since(r.started) > lease
	}
	if r.isAlive(k.Replica) {
		delete(r.absent, k.Replica)
		return false
	}
	since, noted := r.absent[k.Replica]
	if !noted {
		r.absent[k.Replica] = time.Now()
		return false
	}
	return time.Since(since) > deadAfter
}

// isAlive reports whether another replica is heard of.
func (r *Registry) isAlive(replica string) bool {
	for _, p := range r.cfg.Fleet.Peers() {
		if p.Replica == replica {
			return true
		}
	}
	return false
}

// learn takes over what is known of a node beyond that it is here.
func (k *known) learn(n node) {
	if n.identity != "" {
		k.Identity = n.identity
	}
	if len(n.rings) > 0 {
		k.Rings = map[string]string{}
		for _, h := range n.rings {
			k.Rings[h.scope] = h.version
		}
	}
}

// get returns what is planned for a node, or what its record says.
func (p *plan) get(id string) (k known, there bool) {
	key := shardOf(id)
	if s, ok := p.shards[key]; ok {
		k, there = s.nodes[id]
		return k, there
	}
	p.of.mu.Lock()
	defer p.of.mu.Unlock()
	k, there = p.of.shards[key].nodes[id]
	return k, there
}

// put plans a node.
func (p *plan) put(id string, k known) {
	key, s := p.copy(id)
	ok, gaveWay := s.put(id, k)
	switch {
	case ok:
		p.shards[key] = s
		if gaveWay != "" {
			p.dropped[key] = append(p.dropped[key], gaveWay)
		}
	case k.Connected:
		p.crowd++
	default:
		p.dropped[key] = append(p.dropped[key], id)
	}
}

// remove plans that a node is forgotten.
func (p *plan) remove(id string) {
	key, s := p.copy(id)
	delete(s.nodes, id)
	p.shards[key] = s
}

// copy returns the record of a node to be changed.
func (p *plan) copy(id string) (key string, s stored) {
	key = shardOf(id)
	if s, ok := p.shards[key]; ok {
		return key, s
	}
	p.of.mu.Lock()
	defer p.of.mu.Unlock()
	s = p.of.shards[key]
	if s.nodes = maps.Clone(s.nodes); s.nodes == nil {
		s.nodes = map[string]known{}
	}
	return key, s
}
