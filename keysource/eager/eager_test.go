package eager

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/store"
	"github.com/lockstep-tls/lockstep/store/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// inventory is certificates by name; one with an error cannot be looked up.
type inventory struct {
	mu    sync.Mutex
	certs map[keysource.Name]error
	walks int           // over all names
	finds int           // of one name
	slow  time.Duration // a walk takes that
}

func (i *inventory) set(n keysource.Name, err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.certs[n] = err
}
func (i *inventory) drop(n keysource.Name) { i.mu.Lock(); defer i.mu.Unlock(); delete(i.certs, n) }

func (i *inventory) Certificate(_ context.Context, n keysource.Name) (keysource.Certificate, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.finds++
	err, ok := i.certs[n]
	if !ok {
		err = keysource.ErrNotExist
	}
	return keysource.Certificate{}, err
}

func (i *inventory) names(context.Context) iter.Seq2[keysource.Name, error] {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.walks++
	slow := i.slow
	all := slices.Collect(maps.Keys(i.certs))
	return func(yield func(keysource.Name, error) bool) {
		time.Sleep(slow)
		for _, n := range all {
			if !yield(n, nil) {
				return
			}
		}
	}
}

// lab is an Eager, the inventory that it matches, and what it last said.
type lab struct {
	t *testing.T
	*Eager
	inventory
	saying sync.Mutex
	said   [][]keysource.Name
	asked  []string
	deny   error
}

func newLab(t *testing.T, s store.Store, c Config) *lab {
	t.Helper()
	l := &lab{t: t, inventory: inventory{certs: map[keysource.Name]error{}}}
	c.Store, c.Sources, c.Names = s, keysource.Sources{&l.inventory}, l.names
	c.Changed = func(names []keysource.Name) {
		l.saying.Lock()
		defer l.saying.Unlock()
		l.said = append(l.said, names)
	}
	c.Before = func(_ context.Context, n keysource.Name, pinned bool) error {
		l.asked = append(l.asked, fmt.Sprint(n, " ", pinned))
		return l.deny
	}
	var err error
	if l.Eager, err = New(c); err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *lab) run() {
	done := make(chan struct{})
	go func() { defer close(done); l.Run(l.t.Context()) }()
	l.t.Cleanup(func() { <-done })
	synctest.Wait()
}

// eager waits, and demands what was said last.
func (l *lab) eager(want string) {
	l.t.Helper()
	synctest.Wait()
	l.saying.Lock()
	defer l.saying.Unlock()
	if len(l.said) == 0 {
		l.t.Fatalf("nothing was said, want %q", want)
	}
	if got := fmt.Sprint(l.said[len(l.said)-1]); got != "["+want+"]" {
		l.t.Fatalf("eager are %s, want [%s]", got, want)
	}
}

func (l *lab) ok(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

func TestPinsAreSeenByEveryReplicaAndOutliveARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memory.New()
		a, b := newLab(t, s, Config{}), newLab(t, s, Config{Hosts: []keysource.Name{"fixed.example"}})
		a.run()
		b.run()
		a.eager("")
		a.ok(a.Pin(t.Context(), "shop.example", "ann"))
		a.eager("shop.example")
		a.ok(a.Pin(t.Context(), "shop.example", "bob"))
		time.Sleep(time.Second) // the oldest come first
		a.ok(b.Pin(t.Context(), "*.blog.example", "bob"))
		b.eager("fixed.example shop.example *.blog.example")
		time.Sleep(defaultRefresh + time.Second)
		a.eager("shop.example *.blog.example")
		again := newLab(t, store.OneByOne(s), Config{})
		again.run()
		again.eager("shop.example *.blog.example")
		if h, _ := again.Hosts(); h[0].Who != "ann" || h[0].Since.IsZero() || h[0].By != Pinned {
			t.Errorf("%+v", h[0])
		}
		a.ok(again.Unpin(t.Context(), "shop.example"))
		again.eager("*.blog.example")
		if err := again.Unpin(t.Context(), "shop.example"); !errors.Is(err, keysource.ErrNotExist) {
			t.Errorf("%v", err)
		}
		time.Sleep(defaultRefresh + time.Second)
		b.eager("fixed.example *.blog.example")
		if got := fmt.Sprint(a.asked, b.asked,
			again.asked); got != "[shop.example true] [*.blog.example true] [shop.example false]" {
			t.Errorf("asked before: %s", got)
		}
		if a.walks+b.walks+again.walks > 0 {
			t.Error("without globs certificates were enumerated")
		}
	})
}

func TestARefusedChangeIsNotMade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, memory.New(), Config{})
		l.ok(l.Pin(t.Context(), "a.example", "x"))
		l.deny = errors.New("no log")
		if err := l.Pin(t.Context(), "b.example", "x"); !errors.Is(err, l.deny) {
			t.Errorf("%v", err)
		}
		if err := l.Unpin(t.Context(), "a.example"); !errors.Is(err, l.deny) {
			t.Errorf("%v", err)
		}
		l.run()
		l.eager("a.example")
	})
}

func TestGlobsFollowTheCertificates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, memory.New(), Config{Match: []string{"api-*", "*.shop.example"}})
		for _, n := range []keysource.Name{"api-1.example", "www.example", "*.shop.example", "a.b.shop.example"} {
			l.set(n, nil)
		}
		l.run()
		l.eager("*.shop.example a.b.shop.example api-1.example")
		l.set("api-2.example", nil)
		l.drop("a.b.shop.example")
		l.set("other.example", nil)
		l.Look([]keysource.Name{"api-2.example", "a.b.shop.example", "other.example"})
		l.eager("*.shop.example api-1.example api-2.example")
		if l.walks != 1 {
			t.Errorf("all were enumerated %d times", l.walks)
		}
		l.set("api-1.example", errors.New("the source is down"))
		l.Look([]keysource.Name{"api-1.example"})
		l.eager("*.shop.example api-1.example api-2.example")
	})
}

// What is beyond the bound is named; a glob that matches very much costs as much as is kept.
func TestTheBoundHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, memory.New(), Config{Max: 3, Hosts: []keysource.Name{"z.example"}, Match: []string{"m*"}})
		for i := range 2500 {
			l.set(keysource.Name(fmt.Sprintf("m%04d.example", i)), nil)
		}
		l.ok(l.Pin(t.Context(), "y.example", "x"))
		l.run()
		l.eager("z.example y.example m0000.example")
		hosts, more := l.Hosts()
		if len(hosts)+more != 2502 || len(hosts) != 3+2+keepBeyond || !hosts[3].BeyondMax || hosts[2].BeyondMax ||
			hosts[3].Name != "m0001.example" {
			t.Errorf("%d hosts, %d more, %+v", len(hosts), more, hosts[:4])
		}
		l.drop("m0000.example")
		l.Look([]keysource.Name{"m0000.example"})
		l.eager("z.example y.example m0001.example")
		if hosts, more := l.Hosts(); len(hosts)+more != 2501 {
			t.Errorf("%d hosts, %d more", len(hosts), more)
		}
		time.Sleep(time.Second) // the oldest pins come first
		l.ok(l.Pin(t.Context(), "a.example", "x"))
		l.eager("z.example y.example a.example")
	})
}

// Of a million names that match, a change costs a look at what changed. All are enumerated when a
// place is free that none of those kept can take, and seldom to count them.
func TestBeyondTheBoundAChangeCostsWhatChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, memory.New(), Config{Max: 3, Match: []string{"m*"}})
		l.slow = 2 * time.Second
		name := func(i int) keysource.Name { return keysource.Name(fmt.Sprintf("m%05d.example", i)) }
		for i := range 20_000 {
			l.set(name(i), nil)
		}
		cost := func(what string, walks, finds int) {
			t.Helper()
			synctest.Wait()
			l.inventory.mu.Lock()
			defer l.inventory.mu.Unlock()
			if l.walks != walks || l.finds != finds {
				t.Errorf("%s: all were enumerated %d times, and %d looked up, want %d and %d", what, l.walks, l.finds,
					walks, finds)
			}
			l.finds = 0
		}
		drop := func(from, to int) {
			var gone []keysource.Name
			for i := from; i < to; i++ {
				l.drop(name(i))
				gone = append(gone, name(i))
			}
			l.Look(gone)
		}
		l.run()
		time.Sleep(3 * time.Second)
		l.eager("m00000.example m00001.example m00002.example")
		cost("the start", 1, 0)
		for i := range 500 {
			l.Look([]keysource.Name{name(5000 + i), name(i), "other.example"})
			synctest.Wait()
		}
		cost("renewals", 1, 500)
		drop(0, 1000)
		l.eager("m01000.example m01001.example m01002.example")
		time.Sleep(5 * time.Minute)
		cost("the places are taken by those that are kept", 1, 1000)
		drop(1000, 1001)
		synctest.Wait()
		time.Sleep(8 * time.Second)
		l.eager("m01001.example m01002.example m01003.example")
		cost("a place is free", 2, 1)
		drop(1001, 2004)
		l.eager("")
		time.Sleep(scanShare*l.slow - 10*time.Second)
		cost("a place is free again", 2, 1003)
		time.Sleep(20 * time.Second)
		l.eager("m02004.example m02005.example m02006.example")
		cost("once that is long enough ago", 3, 0)
		drop(5000, 20_000)
		synctest.Wait()
		if _, more := l.Hosts(); more == 0 {
			t.Error("they were counted at once")
		}
		time.Sleep(recount + 10*time.Second)
		synctest.Wait()
		if hosts, more := l.Hosts(); len(hosts)+more != 5000-2004 {
			t.Errorf("%d hosts, %d more", len(hosts), more)
		}
		cost("counting", 4, 0)
		time.Sleep(time.Hour)
		cost("nothing changed", 4, 0)
	})
}

func TestWhatChangesWhileAllAreEnumeratedIsNotMissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, memory.New(), Config{Max: 1, Match: []string{"m*"}})
		for i := range 1 + keepBeyond + 10 {
			l.set(keysource.Name(fmt.Sprintf("m%05d.example", i)), nil)
		}
		l.run()
		l.slow = 2 * time.Second
		var gone []keysource.Name
		for i := range 1 + keepBeyond { // only those are left that were beyond
			gone = append(gone, keysource.Name(fmt.Sprintf("m%05d.example", i)))
			l.drop(gone[i])
		}
		l.Look(gone)
		synctest.Wait()
		time.Sleep(defaultRefresh + time.Second) // it is being done
		l.drop("m01001.example")
		l.set("m01001a.example", nil)
		l.Look([]keysource.Name{"m01001.example", "m01001a.example"})
		time.Sleep(2 * time.Second)
		l.eager("m01001a.example")
		if l.walks != 2 {
			t.Errorf("%d walks", l.walks)
		}
	})
}

// broken is a store that cannot be read for a while.
type broken struct {
	mu  sync.Mutex
	s   store.Store
	err error
}

func (b *broken) is(s store.Store, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.s, b.err = s, err
}

func (b *broken) now() (store.Store, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.s, b.err
}

func (b *broken) Changed(ctx context.Context, prefix string, since store.Rev) ([]string, store.Rev, error) {
	s, err := b.now()
	if err != nil {
		return nil, 0, err
	}
	return s.Changed(ctx, prefix, since)
}

func (b *broken) Get(ctx context.Context, key string) ([]byte, store.Rev, error) {
	s, _ := b.now()
	return s.Get(ctx, key)
}

func (b *broken) Swap(ctx context.Context, key string, old store.Rev, val []byte) (store.Rev, error) {
	s, _ := b.now()
	return s.Swap(ctx, key, old, val)
}

func (b *broken) Keys(ctx context.Context, prefix string) iter.Seq2[string, error] {
	s, _ := b.now()
	return s.Keys(ctx, prefix)
}

func (b *broken) Now(ctx context.Context) (time.Time, error) {
	s, _ := b.now()
	return s.Now(ctx)
}

func TestWhileTheStoreCannotBeReadNothingChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &broken{s: memory.New(), err: errors.New("down")}
		l := newLab(t, store.OneByOne(s), Config{})
		l.ok(l.Pin(t.Context(), "a.example", "x"))
		l.run()
		times := func() int {
			time.Sleep(time.Minute)
			synctest.Wait()
			l.saying.Lock()
			defer l.saying.Unlock()
			return len(l.said)
		}
		if times() != 0 || l.Ready() {
			t.Error("it speaks without having read the pins")
		}
		s.is(s.s, nil)
		time.Sleep(defaultRefresh)
		l.eager("a.example")
		said := times()
		s.is(s.s, store.ErrLost)
		if times() > said+1 { // one that was under way
			t.Error("a store that was lost changed something")
		}
		s.is(memory.New(), nil) // it was emptied, and comes back
		l.ok(l.WriteBack(t.Context()))
		time.Sleep(defaultRefresh)
		l.eager("a.example")
		again := newLab(t, store.OneByOne(s), Config{})
		again.run()
		again.eager("a.example")
	})
}

func TestWhatIsNoPinDoesNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memory.New()
		for key, val := range map[string]string{"eager/=X": "{}", "eager/Upper.example": "{}", "eager/a.example": "{",
			"eager/b.example": `{"at":"2026-01-01T00:00:00Z","by":"x"}`} {
			if _, err := s.Swap(t.Context(), key, 0, []byte(val)); err != nil {
				t.Fatal(err)
			}
		}
		l := newLab(t, s, Config{})
		l.run()
		l.eager("b.example")
	})
}

func TestABadGlobIsNamed(t *testing.T) {
	if _, err := New(Config{Match: []string{"[a"}}); err == nil || !strings.Contains(err.Error(), "[a") {
		t.Errorf("%v", err)
	}
}
