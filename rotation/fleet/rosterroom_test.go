package fleet

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-tls/lockstep/rotation"
	"github.com/lockstep-tls/lockstep/store"
)

// hugeFleet is a fleet whose ids are as long as they may be. Every tenth node refuses, each with an
// identity and a reason of its own.
func hugeFleet(nodes int) (ms []rotation.Member) {
	for i := range nodes {
		m := rotation.Member{
			Node: fmt.Sprintf("%0256d", i), Nr: 1, Floor: rotation.MaxGeneration - uint64(i%3), Answered: true,
			Connected: i%5 != 0, Since: epoch.Add(-time.Duration(i) * time.Millisecond),
		}
		if i%10 == 0 {
			m.Refused, m.Words, m.Grouped = rotation.MaxGeneration, strings.Repeat("no ", 1000), true
		}
		if i%7 == 0 {
			m.Answered = false
		}
		ms = append(ms, m)
	}
	return ms
}

// A roster of any fleet fits into a value of a NATS server, sealed. Whoever has no entry is held
// for by one that claims no more than any of them.
func TestARosterOfAnyFleetCanBeStored(t *testing.T) {
	sizes := []int{1000, 10_000, 50_000}
	if raced {
		sizes = sizes[:2]
	}
	for _, nodes := range sizes {
		ms := hugeFleet(nodes)
		b, summed := rosterRecord{Peer{Replica: "r1", At: epoch}, ms}.bounded()
		if len(b) > 1000<<10 {
			t.Fatalf("%d nodes take %d bytes", nodes, len(b))
		}
		r, err := decodeRoster(b)
		if err != nil {
			t.Fatal(err)
		}
		named := map[string]rotation.Member{}
		for _, m := range r.members {
			named[m.Node] = m
		}
		missing := 0
		for _, m := range ms {
			if _, has := named[m.Node]; has {
				continue
			}
			missing++
			by := named["further nodes of replica r1"]
			if !m.Answered {
				by = named["further new nodes of replica r1"]
			}
			if by.Node == "" || by.Answered != m.Answered || by.Floor > m.Floor || m.Connected && !by.Connected ||
				by.Since.Before(m.Since.Truncate(time.Millisecond)) ||
				m.Refused != 0 && by.Refused == 0 || !by.Grouped {
				t.Fatalf("%+v stands for %+v", by, m)
			}
		}
		if missing != summed || nodes == 1000 && summed > 0 || nodes > 1000 && summed < nodes-4000 {
			t.Errorf("%d of %d have no entry, and %d are said", missing, nodes, summed)
		}
	}
	// Ids of usual length all have an entry.
	var usual []rotation.Member
	for i := range 30_000 {
		usual = append(usual, rotation.Member{Node: fmt.Sprintf("edge-%07d", i), Nr: 1, Floor: 123456, Answered: true,
			Connected: true, Since: epoch.Add(-24 * time.Hour)})
	}
	if b, summed := (rosterRecord{Peer{At: epoch}, usual}.bounded()); summed != 0 {
		t.Errorf("30000 nodes with usual ids take %d bytes, and %d have no entry", len(b), summed)
	}
}

// limited is a store that takes no value over a size.
type limited struct {
	store.Store
	most int
}

func (s limited) Swap(ctx context.Context, key string, old store.Rev, val []byte) (store.Rev, error) {
	if len(val) > s.most {
		return 0, fmt.Errorf("%s: a value of %d bytes", key, len(val))
	}
	return s.Store.Swap(ctx, key, old, val)
}

// A fleet that is too large for the store's values rotates all the same. A node without an entry of
// its own is waited for by all replicas.
func TestAFleetWithoutRoomInItsRosterRotates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFaulty()
		const most = 1 << 20
		one := start(t, s, "r1", on(limited{s, most}))
		other := start(t, s.another(), "r2", on(limited{s.another(), most}))
		var all []*client
		for i := range 4000 {
			all = append(all, one.connect(fmt.Sprintf("%0256d", i), ""))
		}
		one.phase(5*time.Second, rotation.Steady, 1)
		if st := one.status(); st.Err != nil || st.Summed < 1000 || len(st.Members) != 4000 {
			t.Fatalf("%v: %d of %d have no entry", st.Err, st.Summed, len(st.Members))
		}
		late := all[3999]
		late.mute.Store(true)
		other.rotate()
		one.phase(10*time.Second, rotation.Distributing, 2)
		other.phase(0, rotation.Distributing, 2)
		if got := other.status().BlockedBy; len(got) == 0 || !strings.Contains(strings.Join(got, ""), late.name) {
			t.Errorf("the replica that does not know all of them waits for %q", got)
		}
		late.mute.Store(false)
		one.wakeUp("", []uint64{late.stream})
		one.phase(10*time.Second, rotation.Steady, 3)
		other.phase(5*time.Second, rotation.Steady, 3)
		if slices.ContainsFunc(all, func(c *client) bool { return c.got() != "[1 2 3]" }) {
			t.Error("not all were sent every ring")
		}
	})
}
