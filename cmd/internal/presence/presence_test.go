package presence

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/problems"
	"github.com/lockstep-tls/lockstep/cmd/internal/recorder"
	"github.com/lockstep-tls/lockstep/events"
	"github.com/lockstep-tls/lockstep/rotation"
	"github.com/lockstep-tls/lockstep/rotation/fleet"
	"github.com/lockstep-tls/lockstep/store"
	"github.com/lockstep-tls/lockstep/store/memory"
	"github.com/lockstep-tls/lockstep/xds"
)

const lease = time.Minute

// others is the rest of the fleet.
type others struct {
	peers   []fleet.Peer
	members []rotation.Member
}

func (o *others) Scopes() []string { return []string{"default"} }

func (o *others) Status(string) (st fleet.Status, err error) {
	st.Policy.NodeLease, st.Now, st.Members = lease, time.Now(), o.members
	return st, nil
}

func (o *others) Peers() []fleet.Peer { return o.peers }

// lab is two replicas on one store.
type lab struct {
	t     *testing.T
	store store.Store
	told  []events.Event
	rest  *others
}

func newLab(t *testing.T) *lab { return &lab{t: t, store: memory.New(), rest: &others{}} }

func (l *lab) replica(name string, expected ...string) *Registry {
	return New(Config{
		Store: l.store, Replica: name, Fleet: l.rest, Refresh: time.Second, Expected: expected,
		Record: func(e recorder.Entry) { l.told = append(l.told, e.Event) }, Log: slog.New(slog.DiscardHandler),
	})
}

func (l *lab) look(all ...*Registry) {
	l.t.Helper()
	for _, r := range all {
		if err := r.look(l.t.Context()); err != nil {
			l.t.Fatal(err)
		}
	}
}

func (l *lab) gone() (ids []string) {
	for _, e := range l.told {
		if e.Kind == events.NodeGone {
			ids = append(ids, e.Node)
		}
	}
	return ids
}

var stream uint64

// connects opens a stream, and returns what closes it.
func connects(r *Registry, id string) (closes func()) {
	stream++
	n := xds.Node{ID: id, Stream: stream, Service: xds.SDS}
	r.Observe(xds.Event{Node: n, Kind: xds.Asked, Name: "tickets/default"})
	r.Observe(xds.Event{Node: n, Kind: xds.Accepted, Name: "tickets/default", Version: "g7-0123456789ab"})
	return func() { r.Observe(xds.Event{Node: n, Kind: xds.Closed}) }
}

func row(r *Registry, id string) (n Node, ok bool) {
	all := r.Gone()
	i := slices.IndexFunc(all, func(n Node) bool { return n.ID == id })
	if i < 0 {
		return n, false
	}
	return all[i], true
}

func TestANodeIsGoneOnceItsLeaseHasEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		a, b := l.replica("a"), l.replica("b")
		l.rest.peers = []fleet.Peer{{Replica: "a"}, {Replica: "b"}}
		closes := connects(a, "edge-1")
		stays := connects(a, "edge-2")
		defer stays()
		l.look(a, b)
		closes()
		left := time.Now()
		l.look(a, b)
		for range 4 {
			time.Sleep(lease / 5)
			l.look(a, b)
		}
		if n, _ := row(b, "edge-1"); n.Gone || len(l.gone()) != 0 {
			t.Errorf("gone within its lease: %+v, told %v", n, l.gone())
		}
		time.Sleep(lease / 2)
		l.look(b, a, b)
		n, ok := row(b, "edge-1")
		if !ok || !n.Gone || !n.Since.Equal(left) || n.Rings["default"] != "g7-0123456789ab" {
			t.Errorf("replica b knows %+v, which left at %s", n, left)
		}
		if !slices.Equal(l.gone(), []string{"edge-1"}) {
			t.Errorf("told as gone: %v", l.gone())
		}
		if err := a.Forget(t.Context(), "edge-2"); !errors.Is(err, ErrLive) {
			t.Errorf("forgetting a node that is here: %v", err)
		}
		if err := a.Forget(t.Context(), "edge-1"); err != nil {
			t.Error(err)
		}
		l.look(a, b)
		if n, ok := row(b, "edge-1"); ok {
			t.Errorf("it was forgotten, and is %+v", n)
		}
	})
}

// A node has streams to several replicas, moves, and comes back: it is not gone.
func TestANodeThatIsAtAnotherReplicaIsNotGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		a, b := l.replica("a"), l.replica("b")
		l.rest.peers = []fleet.Peer{{Replica: "a"}, {Replica: "b"}}
		atA, atB := connects(a, "edge-1"), connects(b, "edge-1")
		l.look(a, b)
		atA()
		for range 20 {
			time.Sleep(lease / 5)
			l.look(a, b)
		}
		if _, ok := row(a, "edge-1"); ok || len(l.gone()) != 0 {
			t.Errorf("it is at b, and a tells it as gone: %v", l.gone())
		}
		atB()
		l.look(b)
		connects(a, "edge-1")
		for range 20 {
			time.Sleep(lease / 5)
			l.look(a, b)
		}
		if len(l.gone()) != 0 {
			t.Errorf("it came back: %v", l.gone())
		}
	})
}

// A replica of the version before writes rosters, and none of these records.
func TestANodeAtAReplicaThatKeepsNoRecordsIsNotGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		a := l.replica("a")
		connects(a, "edge-1")()
		l.rest.members = []rotation.Member{{Node: "edge-1", Connected: true, Since: time.Now(), Answered: true, Nr: 1}}
		l.look(a)
		time.Sleep(5 * lease)
		l.look(a)
		if _, ok := row(a, "edge-1"); ok || len(l.gone()) != 0 {
			t.Errorf("told as gone: %v", l.gone())
		}
	})
}

// A replica that is killed tells nothing of its nodes any more. Another one does, or it itself once
// it is back.
func TestNodesOfAReplicaThatWasKilledAreGone(t *testing.T) {
	for _, back := range []bool{false, true} {
		t.Run(fmt.Sprintf("back %v", back), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLab(t)
				a, b := l.replica("a"), l.replica("b")
				l.rest.peers = []fleet.Peer{{Replica: "a"}, {Replica: "b"}}
				connects(a, "edge-1")
				l.look(a, b)
				if back {
					a = l.replica("a")
				} else {
					l.rest.peers = l.rest.peers[1:]
				}
				for range 20 {
					time.Sleep(lease / 5)
					if l.look(b); back {
						l.look(a)
					}
				}
				if n, ok := row(b, "edge-1"); !ok || !n.Gone || !slices.Equal(l.gone(), []string{"edge-1"}) {
					t.Errorf("%+v, told as gone: %v", n, l.gone())
				}
			})
		})
	}
}

func TestExpectedNodesThatAreNotHereAreNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		a := l.replica("a", "edge-1", "edge-2", "edge-3")
		connects(a, "edge-1")
		closes := connects(a, "edge-2")
		l.look(a)
		if _, missing := a.Count(); missing != 0 || len(a.Problems()) != 0 {
			t.Errorf("right after the start: %d missing, %v", missing, a.Problems())
		}
		closes()
		l.look(a)
		time.Sleep(2 * lease)
		l.look(a)
		if gone, missing := a.Count(); gone != 1 || missing != 2 {
			t.Errorf("%d gone, %d missing", gone, missing)
		}
		got := strings.Join(problems.Degraded(a.Problems()), "\n")
		if !strings.Contains(got, "2 expected nodes") || !strings.Contains(got, "edge-2 (since ") ||
			!strings.Contains(got, "edge-3 (never seen)") || strings.Contains(got, "edge-1") {
			t.Errorf("%s", got)
		}
	})
}

// Of more nodes than a record takes, those that left first give way.
func TestTheRecordsAreBounded(t *testing.T) {
	s := shard{nodes: map[string]known{}}
	now := time.Now()
	s.put("here", known{Connected: true, At: now.Add(-time.Hour)})
	for i := range 3 * shardMax {
		s.put(fmt.Sprint(i), known{At: now.Add(time.Duration(i) * time.Second)})
	}
	if len(s.nodes) != shardMax {
		t.Errorf("%d nodes", len(s.nodes))
	}
	for id, want := range map[string]bool{"here": true, "0": false, fmt.Sprint(3*shardMax - 1): true} {
		if _, ok := s.nodes[id]; ok != want {
			t.Errorf("%s is there: %v", id, ok)
		}
	}
	if ok, _ := s.put("came", known{Connected: true, At: now.Add(time.Hour)}); ok {
		t.Error("a node that came has taken the place of one that left: it would do so at each look")
	}
	b, err := s.encode()
	if err != nil || len(b) > 256<<10 {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}

// While the store is away, nodes that leave cost no more than their records would.
func TestTheNodesThatLeftAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		a := l.replica("a")
		id := func(i int) string { return fmt.Sprintf("edge-%d", i) }
		const n = 2 * maxLeft
		for i := range n {
			connects(a, id(i))()
			time.Sleep(time.Millisecond)
		}
		_, left := a.tracker.take()
		if len(left) < maxLeft || len(left) > maxLeft+leftSlack {
			t.Errorf("%d nodes that left are kept", len(left))
		}
		if _, last := left[id(n-1)]; !last {
			t.Error("the last one that left is not there")
		}
		if _, first := left[id(0)]; first {
			t.Error("the first one that left is there")
		}
		more := map[string]node{}
		for i := range n {
			more[id(i)] = node{since: time.Now()}
		}
		a.tracker.giveBack(more)
		if _, left = a.tracker.take(); len(left) > maxLeft+leftSlack {
			t.Errorf("%d nodes were put back", len(left))
		}
	})
}

// closed is a store of which nothing opens.
type closed struct{ store.Store }

func (c closed) GetAll(ctx context.Context, keys []string) []store.Value {
	all := c.Store.GetAll(ctx, keys)
	for i := range all {
		if all[i].Err == nil {
			all[i].Val, all[i].Err = nil, fmt.Errorf("%s %w", keys[i], store.ErrSealed)
		}
	}
	return all
}

// A replica that has an earlier sealing key begins no record of the others anew.
func TestWithAnEarlierSealingKeyNoRecordIsBegunAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		a, b := l.replica("a"), l.replica("b")
		connects(a, "edge-1")()
		l.look(a)
		time.Sleep(2 * lease)
		l.look(a)
		connects(b, "edge-1")
		earlier := errors.New("this is an earlier key")
		b.cfg.Store, b.cfg.Unsealed = closed{l.store}, func(context.Context) error { return earlier }
		if err := b.look(t.Context()); !errors.Is(err, earlier) {
			t.Error(err)
		}
		val, _, err := l.store.Get(t.Context(), shardOf("edge-1"))
		if s, bad := decodeShard(val); err != nil || bad != nil || s.nodes["edge-1"].Replica != "a" {
			t.Errorf("%s %v %v", val, err, bad)
		}
		b.cfg.Store = l.store // it has read the key
		l.look(b)
		if _, gone := row(b, "edge-1"); gone {
			t.Error("it is at b, and is gone")
		}
	})
}

// Replicas of two versions write the same records.
func TestFieldsOfALaterVersionAreKept(t *testing.T) {
	l := newLab(t)
	a := l.replica("a")
	key := shardOf("edge-1")
	later := `{"nodes":{"edge-1":{"replica":"b","at":"2026-11-30T00:00:00Z","zone":"eu"}},"format":2}`
	if _, err := l.store.Swap(t.Context(), key, 0, []byte(later)); err != nil {
		t.Fatal(err)
	}
	connects(a, "edge-1")
	l.look(a)
	val, _, err := l.store.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Format int
		Nodes  map[string]struct {
			Zone, Replica string
			Connected     bool
		}
	}
	if err := json.Unmarshal(val, &got); err != nil {
		t.Fatal(err)
	}
	if n := got.Nodes["edge-1"]; got.Format != 2 || n.Zone != "eu" || n.Replica != "a" || !n.Connected {
		t.Errorf("%s", val)
	}
}

// A record that cannot be read is begun anew, and does not hold up the others.
func TestADamagedRecordIsBegunAnew(t *testing.T) {
	l := newLab(t)
	a := l.replica("a")
	if _, err := l.store.Swap(t.Context(), shardOf("edge-1"), 0, []byte("damaged")); err != nil {
		t.Fatal(err)
	}
	connects(a, "edge-1")
	l.look(a, a)
	val, _, err := l.store.Get(t.Context(), shardOf("edge-1"))
	if err != nil || !strings.Contains(string(val), `"edge-1"`) {
		t.Errorf("%s %v", val, err)
	}
}

// What nothing happens to is not written.
func TestAQuietFleetIsNotWritten(t *testing.T) {
	l := newLab(t)
	a := l.replica("a")
	connects(a, "edge-1")
	l.look(a)
	_, before, err := l.store.Get(t.Context(), shardOf("edge-1"))
	if err != nil {
		t.Fatal(err)
	}
	l.look(a, a, a)
	if _, after, _ := l.store.Get(t.Context(), shardOf("edge-1")); after != before {
		t.Errorf("revision %d became %d", before, after)
	}
}

// A store that lost everything gets the records again.
func TestALostRecordIsWrittenBack(t *testing.T) {
	l := newLab(t)
	a := l.replica("a")
	connects(a, "edge-1")
	l.look(a)
	l.store = memory.New()
	a.cfg.Store = l.store
	connects(a, "edge-1")()
	closes := connects(a, sibling("edge-1"))
	defer closes()
	l.look(a, a)
	val, _, err := l.store.Get(t.Context(), shardOf("edge-1"))
	if err != nil || !strings.Contains(string(val), `"edge-1"`) {
		t.Errorf("%s %v", val, err)
	}
}

// sibling is another node in the same record.
func sibling(id string) string {
	for i := 0; ; i++ {
		if other := fmt.Sprint("other-", i); shardOf(other) == shardOf(id) {
			return other
		}
	}
}

// More nodes than there is room for: the log and status say what is not remembered. It is those
// that left first.
func TestWhatThereIsNoRoomForIsSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		var log strings.Builder
		a := l.replica("a")
		a.cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
		l.rest.peers = []fleet.Peer{{Replica: "a"}}
		// All belong into one record, which is full at a 64th.
		const all = shardMax + 50
		var ids []string
		for i := 0; len(ids) < all; i++ {
			if id := fmt.Sprintf("edge-%d", i); shardOf(id) == shardOf("edge-0") {
				ids = append(ids, id)
			}
		}
		said := func() (crowd, gone int, text string) {
			for _, p := range a.Problems() {
				if p.Code != problems.NodesUnremembered {
					continue
				}
				if text += p.Text + "\n"; p.Where == "gone" {
					gone = p.Count
				} else {
					crowd = p.Count
				}
			}
			return crowd, gone, text
		}
		closes := map[string]func(){}
		for _, id := range ids {
			closes[id] = connects(a, id)
		}
		l.look(a)
		crowd, gone, text := said()
		if crowd != 50 || gone != 0 || !strings.Contains(log.String(), "cannot be remembered") {
			t.Fatalf("%d have no room, %d gone: %s %s", crowd, gone, text, log.String())
		}
		for i, id := range ids { // the first ones leave first
			closes[id]()
			time.Sleep(time.Millisecond)
			if i%20 == 19 {
				l.look(a)
			}
		}
		time.Sleep(2 * lease)
		l.look(a)
		l.look(a)
		crowd, gone, text = said()
		if crowd != 0 || gone != 50 || !strings.Contains(text, "those that left first") ||
			!strings.Contains(log.String(), "those that left first") {
			t.Errorf("%d have no room, %d were forgotten, want 50: %s", crowd, gone, text)
		}
		kept := a.Gone()
		if len(kept)+gone != all {
			t.Errorf("%d are remembered and %d forgotten of %d", len(kept), gone, all)
		}
		if _, ok := row(a, ids[all-1]); !ok {
			t.Error("the last one that left is not remembered")
		}
		if _, ok := row(a, ids[0]); ok {
			t.Error("the first one that left is remembered")
		}
		time.Sleep(forgottenFor + time.Minute)
		if crowd, gone, _ := said(); crowd+gone != 0 {
			t.Errorf("a day later %d and %d", crowd, gone)
		}
	})
}
