package sds

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	trialbook "github.com/lockstep-tls/lockstep/keysource/trial"
	"github.com/lockstep-tls/lockstep/store"
	"github.com/lockstep-tls/lockstep/store/memory"
	"github.com/lockstep-tls/lockstep/xds"
)

const tryFor = 2 * time.Second

// away is a store that can be switched off.
type away struct {
	store.Store
	off atomic.Bool
}

func (s *away) Get(ctx context.Context, key string) ([]byte, store.Rev, error) {
	if s.off.Load() {
		return nil, 0, errors.New("the store is away")
	}
	return s.Store.Get(ctx, key)
}

func newStore() *away { return &away{Store: memory.New()} }

// trialLab is a table with trials, and the nodes that watch one name there.
type trialLab struct {
	*lab
	book  *trialbook.Records
	nodes map[string]*tester
	next  uint64
}

// tester is a node that answers when it is told to. It counts what it was sent.
type tester struct {
	t       *testing.T
	l       *trialLab
	node    xds.Node
	name    string
	mailbox *xds.Mailbox
	held    string // the chain that it was given last
	res     *xds.Resource
}

func newTrialLab(replica string, s store.Store) *trialLab {
	l := &trialLab{lab: &lab{source: newSource(), rings: newRings()}, nodes: map[string]*tester{}}
	l.book = trialbook.New(trialbook.Config{Store: store.OneByOne(s), Replica: replica,
		Changed: func(names []keysource.Name) { l.TrialsChanged(names) }})
	l.Table = NewTable(Config{
		Sources: keysource.Sources{l.source}, Rings: l.rings, Log: slog.New(slog.NewTextHandler(&l.log, nil)),
		Trials: l.book, TryFor: tryFor,
	})
	return l
}

func (l *trialLab) start(t *testing.T) (stop func()) {
	stopTable := l.lab.start(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- l.book.Run(ctx) }()
	synctest.Wait()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		stopTable()
	}
}

// join adds a node of a kind such as "1.40.0".
func (l *trialLab) join(t *testing.T, id, build, name string) *tester {
	l.next++
	n := &tester{t: t, l: l, name: name, mailbox: xds.NewMailbox()}
	n.node = xds.Node{ID: id, Agent: "envoy", Build: build, Stream: l.next, Service: xds.ADS}
	l.nodes[id] = n
	l.Watch(n.node, name, n.mailbox)
	synctest.Wait()
	n.look()
	return n
}

// look takes what the node may have, as a stream does when it is woken.
func (n *tester) look() {
	n.mailbox.Take()
	res, state := n.l.Lookup(n.node, n.name)
	if state == xds.Present {
		n.res, n.held = res, string(secret(n.t, res).GetTlsCertificate().GetCertificateChain().GetInlineBytes())
	}
}

// answer tells what the node did with what it was sent.
func (n *tester) answer(kind xds.Kind, words string) {
	n.l.Observe(xds.Event{Node: n.node, Type: TypeURL, Name: n.name, Version: contentOf(n.res), Kind: kind,
		Words: words, At: time.Now()})
	synctest.Wait()
}

// renew changes the certificate of shop.example, and lets those look who are woken.
func (l *trialLab) renew(chain string) {
	l.set("shop.example", chain)
	l.Refresh([]keysource.Name{"shop.example"})
	l.turn()
}

// turn lets those look who were woken.
func (l *trialLab) turn() {
	synctest.Wait()
	for _, n := range l.nodes {
		select {
		case <-n.mailbox.Signal():
			n.look()
		default:
		}
	}
	synctest.Wait()
}

// holding lists the nodes that were given chain.
func holding(chain string, labs ...*trialLab) (ids []string) {
	for _, l := range labs {
		for id, n := range l.nodes {
			if n.held == chain {
				ids = append(ids, id)
			}
		}
	}
	slices.Sort(ids)
	return ids
}

func first(t *testing.T, chain string, l *trialLab) *tester {
	t.Helper()
	ids := holding(chain, l)
	if len(ids) != 1 {
		t.Fatalf("%q have %s, want one node", ids, chain)
	}
	return l.nodes[ids[0]]
}

func trialTest(t *testing.T, f func(t *testing.T, l *trialLab, s *away)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := newStore()
		l := newTrialLab("a", s)
		defer l.start(t)()
		l.renew("1")
		f(t, l, s)
	})
}

func wantHolding(t *testing.T, chain string, l *trialLab, want ...string) {
	t.Helper()
	if got := holding(chain, l); !slices.Equal(got, want) {
		t.Errorf("%s is held by %q, want %q", chain, got, want)
	}
}

func TestOneNodeOfAKindGetsAChangedCertificateFirst(t *testing.T) {
	trialTest(t, func(t *testing.T, l *trialLab, _ *away) {
		for i := range 5 {
			l.join(t, fmt.Sprintf("n%d", i), "1.40.0", "shop.example")
		}
		wantHolding(t, "1", l, "n0", "n1", "n2", "n3", "n4") // a first certificate has no trial
		l.renew("2")
		n := first(t, "2", l)
		l.join(t, "late", "1.40.0", "shop.example")
		first(t, "2", l)
		n.answer(xds.Accepted, "")
		l.turn()
		wantHolding(t, "2", l, "late", "n0", "n1", "n2", "n3", "n4")
		if l.Tried()[keysource.Accepted] != 1 || l.trialsOpen.Load() != 0 {
			t.Errorf("tried %v, %d open", l.Tried(), l.trialsOpen.Load())
		}
		l.join(t, "other", "1.41.0", "shop.example") // of a kind that came after the trial
		if l.nodes["other"].held != "2" {
			t.Error("a node that came later was kept waiting")
		}
	})
}

func TestEachKindHasAFirstOfItsOwn(t *testing.T) {
	trialTest(t, func(t *testing.T, l *trialLab, _ *away) {
		for _, id := range []string{"a1", "a2", "b1", "b2"} {
			l.join(t, id, map[byte]string{'a': "1.39.0", 'b': "1.40.0"}[id[0]], "shop.example")
		}
		l.renew("2")
		ids := holding("2", l)
		if len(ids) != 2 || ids[0][0] != 'a' || ids[1][0] != 'b' {
			t.Fatalf("first are %q", ids)
		}
		l.nodes[ids[1]].answer(xds.Refused, "no such curve")
		l.nodes[ids[0]].answer(xds.Accepted, "")
		l.turn()
		// who refused it is cured by what is sent in its place
		wantHolding(t, "2", l, "a1", "a2", ids[1])
		time.Sleep(time.Hour)
		l.turn()
		wantHolding(t, "2", l, "a1", "a2", ids[1])
	})
}

func TestARefusedCertificateReachesNoOtherNodeOfTheKind(t *testing.T) {
	trialTest(t, func(t *testing.T, l *trialLab, s *away) {
		for i := range 3 {
			l.join(t, fmt.Sprintf("n%d", i), "1.40.0", "shop.example")
		}
		old := contentOf(l.nodes["n0"].res)
		l.renew("2")
		n := first(t, "2", l)
		n.answer(xds.Refused, "no such curve")
		l.turn()
		if r, how := l.Cure(n.node, "shop.example", contentOf(n.res), old, 0); how != xds.Replace ||
			contentOf(r) != old {
			t.Errorf("the node that refused it gets %v (%d), want what it had", r, how)
		}
		l.join(t, "late", "1.40.0", "shop.example")
		wantHolding(t, "2", l, n.node.ID)
		if all, count := l.Refusals(); count != 1 || all[0].Name != "shop.example" || all[0].Kind != "envoy 1.40.0" ||
			all[0].Node != n.node.ID || all[0].Words != "no such curve" {
			t.Errorf("%d refusals: %+v", count, all)
		}
		if !strings.Contains(l.log.String(), "level=ERROR") || !strings.Contains(l.log.String(), "no such curve") {
			t.Errorf("the log does not tell: %s", l.log.String())
		}
		// The record outlives the table: after a restart the kind is still spared it, and a node
		// of another kind gets it.
		other := newTrialLab("a", s)
		defer other.start(t)()
		other.set("shop.example", "2")
		if n := other.join(t, "n1", "1.40.0", "shop.example"); n.res == nil || !n.res.StandIn {
			t.Errorf("after a restart the kind gets %v, want a stand-in, "+
				"which takes nothing from who has a certificate", n.res)
		}
		if n := other.join(t, "new", "1.41.0", "shop.example"); n.held != "2" {
			t.Errorf("another kind holds %q after a restart", n.held)
		}
		// Another certificate ends it.
		l.renew("3")
		n3 := first(t, "3", l)
		n3.answer(xds.Accepted, "")
		l.turn()
		wantHolding(t, "3", l, "late", "n0", "n1", "n2")
		if _, count := l.Refusals(); count != 0 {
			t.Error("the refusal is still shown")
		}
	})
}

func TestANodeThatDoesNotAnswerHoldsUpAChangeFor2s(t *testing.T) {
	trialTest(t, func(t *testing.T, l *trialLab, _ *away) {
		for i := range 3 {
			l.join(t, fmt.Sprintf("n%d", i), "1.40.0", "shop.example")
		}
		l.renew("2")
		n := first(t, "2", l)
		time.Sleep(tryFor - time.Millisecond)
		l.turn()
		first(t, "2", l)
		time.Sleep(2 * time.Millisecond)
		l.turn()
		wantHolding(t, "2", l, "n0", "n1", "n2")
		if log := l.log.String(); !strings.Contains(log, "level=WARN") ||
			!strings.Contains(log, n.node.ID+" has not answered") {
			t.Errorf("the log does not tell: %s", log)
		}
		n.answer(xds.Refused, "too late")
		l.turn()
		if _, count := l.Refusals(); count != 0 || l.Tried()[keysource.Silent] != 1 {
			t.Errorf("%d refusals, tried %v", count, l.Tried())
		}
	})
}

func TestASecondChangeIsTriedAnew(t *testing.T) {
	trialTest(t, func(t *testing.T, l *trialLab, _ *away) {
		for i := range 4 {
			l.join(t, fmt.Sprintf("n%d", i), "1.40.0", "shop.example")
		}
		l.renew("2")
		n := first(t, "2", l)
		l.renew("3")
		if len(holding("2", l))+len(holding("3", l)) > 2 || len(holding("3", l)) != 1 {
			t.Fatalf("2 is held by %q, 3 by %q", holding("2", l), holding("3", l))
		}
		l.Observe(xds.Event{Node: n.node, Type: TypeURL, Name: "shop.example", Version: contentOf(n.res),
			Kind: xds.Accepted})
		if n.held == "2" {
			l.turn()
			if len(holding("2", l)) > 1 {
				t.Error("the acceptance of the second let it out")
			}
		}
		m := first(t, "3", l)
		m.answer(xds.Accepted, "")
		l.turn()
		wantHolding(t, "3", l, "n0", "n1", "n2", "n3")
	})
}

// What came before is not let out, nor complained of, when its time is over.
func TestASecondChangeEndsTheTrialOfTheFirst(t *testing.T) {
	trialTest(t, func(t *testing.T, l *trialLab, _ *away) {
		for i := range 4 {
			l.join(t, fmt.Sprintf("n%d", i), "1.40.0", "shop.example")
		}
		l.renew("2")
		time.Sleep(tryFor - time.Millisecond)
		l.renew("3")
		time.Sleep(tryFor - time.Millisecond)
		for _, n := range l.nodes { // as if something else had woken them
			n.look()
		}
		if len(holding("2", l)) > 1 || len(holding("3", l)) != 1 {
			t.Errorf("2 is held by %q, 3 by %q", holding("2", l), holding("3", l))
		}
		if l.Tried()[keysource.Silent] != 0 {
			t.Error("the first change counts as one without an answer")
		}
		for _, n := range l.nodes {
			l.Unwatch(n.node, n.name, n.mailbox)
		}
		if l.trialsOpen.Load() != 0 {
			t.Errorf("%d trials are open when nobody watches", l.trialsOpen.Load())
		}
	})
}

func TestAChangeBackIsNotTried(t *testing.T) {
	trialTest(t, func(t *testing.T, l *trialLab, _ *away) {
		for i := range 4 {
			l.join(t, fmt.Sprintf("n%d", i), "1.40.0", "shop.example")
		}
		l.renew("2")
		first(t, "2", l)
		l.renew("1")
		wantHolding(t, "1", l, "n0", "n1", "n2", "n3")
		if l.trialsOpen.Load() != 0 {
			t.Errorf("%d trials are open", l.trialsOpen.Load())
		}
	})
}

func TestAStoreThatIsAwayHoldsUpAChangeFor2s(t *testing.T) {
	trialTest(t, func(t *testing.T, l *trialLab, s *away) {
		l.join(t, "n0", "1.40.0", "shop.example")
		l.join(t, "n1", "1.40.0", "shop.example")
		s.off.Store(true)
		l.renew("2")
		wantHolding(t, "2", l)
		time.Sleep(tryFor + time.Millisecond)
		l.turn()
		wantHolding(t, "2", l, "n0", "n1")
		if log := l.log.String(); !strings.Contains(log, "the store is away") {
			t.Errorf("the log does not tell: %s", log)
		}
		// One that is back in time decides.
		l.renew("3")
		wantHolding(t, "3", l)
		s.off.Store(false)
		time.Sleep(time.Second)
		l.turn()
		first(t, "3", l).answer(xds.Accepted, "")
		l.turn()
		wantHolding(t, "3", l, "n0", "n1")
	})
}

func TestTwoReplicasChooseOneNode(t *testing.T) {
	for _, c := range []struct {
		name string
		kind xds.Kind
		want int // of 4 nodes
	}{{"accepted", xds.Accepted, 4}, {"refused", xds.Refused, 1}, {"the first replica dies", xds.Sent, 4}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStore()
				var labs []*trialLab
				for _, replica := range []string{"a", "b"} {
					l := newTrialLab(replica, s)
					defer l.start(t)()
					l.set("shop.example", "1")
					for i := range 2 {
						l.join(t, fmt.Sprintf("%s%d", replica, i), "1.40.0", "shop.example")
					}
					labs = append(labs, l)
				}
				for _, l := range labs {
					l.renew("2")
				}
				ids := holding("2", labs...)
				if len(ids) != 1 {
					t.Fatalf("first are %q", ids)
				}
				began := time.Now()
				l := labs[strings.IndexByte("ab", ids[0][0])]
				l.nodes[ids[0]].answer(c.kind, "words")
				for _, l := range labs {
					l.turn()
				}
				for range 250 { // until it is over
					if c.want > 1 && len(holding("2", labs...)) == c.want {
						break
					}
					time.Sleep(10 * time.Millisecond)
					for _, l := range labs {
						l.turn()
					}
				}
				if ids := holding("2", labs...); len(ids) != c.want {
					t.Errorf("2 is held by %q after %s", ids, time.Since(began))
				}
				if took := time.Since(began); c.kind == xds.Accepted && took > 2*claimRetryMost {
					t.Errorf("the other replica went on after %s", took)
				}
			})
		})
	}
}

// What is released is not tried, here and at another replica, also if a node refused it before.
func TestWhatIsReleasedReachesAllAtOnce(t *testing.T) {
	trialTest(t, func(t *testing.T, l *trialLab, s *away) {
		l.join(t, "n0", "1.40.0", "shop.example")
		l.join(t, "n1", "1.40.0", "shop.example")
		l.renew("2")
		n := first(t, "2", l)
		n.answer(xds.Refused, "no")
		version := contentOf(n.res)
		other := trialbook.New(trialbook.Config{Store: store.OneByOne(s), Replica: "b"})
		if err := other.Release(t.Context(), "shop.example", version); err != nil {
			t.Fatal(err)
		}
		l.book.Wake()
		l.turn()
		wantHolding(t, "2", l, "n0", "n1")
		next := keysource.Certificate{PEM: keysource.PEM{Chain: []byte("3"), Key: []byte("key of 3")}}
		if err := l.book.Release(t.Context(), "shop.example", next.Version()); err != nil {
			t.Fatal(err)
		}
		s.off.Store(true) // the replica that took it knows it already
		l.renew("3")
		wantHolding(t, "3", l, "n0", "n1")
	})
}

// One certificate has one trial, under all names and spellings that show it.
func TestNamesUnderAWildcardShareATrial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newTrialLab("a", newStore())
		defer l.start(t)()
		l.set("*.shop.example", "1")
		for i := range 6 {
			l.join(t, fmt.Sprintf("n%d", i), "1.40.0", fmt.Sprintf("%c.shop.example", 'a'+i))
		}
		l.set("*.shop.example", "2")
		l.Refresh([]keysource.Name{"*.shop.example"})
		l.turn()
		first(t, "2", l).answer(xds.Accepted, "")
		l.turn()
		wantHolding(t, "2", l, "n0", "n1", "n2", "n3", "n4", "n5")
		if l.Tried()[keysource.Accepted] != 1 {
			t.Errorf("tried %v", l.Tried())
		}
	})
}

// What nobody else has needs no trial, where there is no other replica.
func TestWhatOneStreamHasIsNotTried(t *testing.T) {
	trialTest(t, func(t *testing.T, l *trialLab, _ *away) {
		l.cfg.OnlyReplica = true
		l.join(t, "n0", "1.40.0", "shop.example")
		l.renew("2")
		wantHolding(t, "2", l, "n0")
		if l.trialsOpen.Load() != 0 || len(l.trials) != 0 {
			t.Error("there is a trial")
		}
	})
}

func TestTrialsLeaveNothingBehind(t *testing.T) {
	trialTest(t, func(t *testing.T, l *trialLab, _ *away) {
		for i := range 3 {
			l.join(t, fmt.Sprintf("n%d", i), "1.40.0", "shop.example")
		}
		for i := range 6 { // the last is refused, and stands
			chain := fmt.Sprint(i + 2)
			l.renew(chain)
			first(t, chain, l).answer([]xds.Kind{xds.Accepted, xds.Refused}[i%2], "no")
			l.turn()
		}
		for _, n := range l.nodes {
			l.Unwatch(n.node, n.name, n.mailbox)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		l.Table.mu.Lock()
		defer l.Table.mu.Unlock()
		if len(l.trials) != 0 || len(l.peers) != 0 || l.trialsOpen.Load() != 0 {
			t.Errorf("%d trials, %d peers, %d open", len(l.trials), len(l.peers), l.trialsOpen.Load())
		}
	})
}
