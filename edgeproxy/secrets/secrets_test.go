package secrets

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/test/fleet"
	"github.com/lockstep-tls/lockstep/xds"
)

func TestACertificateIsLoadedOnceForAllWhoWait(t *testing.T) {
	p := newPlane(t)
	p.issue("shop.example")
	e := p.edge(Config{})
	var g sync.WaitGroup
	for range 200 {
		g.Go(func() {
			if _, err := e.Certificate(t.Context(), "shop.example"); err != nil {
				t.Error(err)
			}
		})
	}
	g.Wait()
	if n := p.saw(xds.Asked, "shop.example"); n != 1 {
		t.Errorf("it was asked for %d times", n)
	}
	if n := p.reads.Load(); n != 1 {
		t.Errorf("%d reads of the source", n)
	}
}

func TestARenewalComesByItself(t *testing.T) {
	p := newPlane(t)
	p.issue("shop.example")
	e := p.edge(Config{})
	old := e.serves(t, "shop.example")
	version := p.issue("shop.example")
	soon(t, "the new certificate is served",
		func() bool { now := e.serves(t, "shop.example"); return now != old && !strings.Contains(now, " ") })
	soon(t, "it is accepted", func() bool { return p.accepted("shop.example", version) })
}

func TestAnAbsenceIsRememberedForAWhile(t *testing.T) {
	p := newPlane(t)
	p.issue("shop.example")
	e := p.edge(Config{})
	for range 100 {
		if _, err := e.Certificate(t.Context(), "no.example"); !errors.Is(err, ErrNotExist) {
			t.Fatal(err)
		}
	}
	if n := p.saw(xds.Asked, "no.example"); n != 1 {
		t.Errorf("it was asked for %d times", n)
	}
	if e.Serves("no.example") || !e.Serves("shop.example") {
		t.Error("absences are not told apart")
	}
	p.issue("no.example")
	soon(t, "it is there", func() bool { _, err := e.Certificate(t.Context(), "no.example"); return err == nil })
}

// A removal of what nobody waits for is no absence to remember: the next client has it asked for
// anew.
func TestWhatIsRemovedIsAskedForAgain(t *testing.T) {
	p := newPlane(t)
	p.issue("shop.example")
	e := p.edge(Config{})
	e.serves(t, "shop.example")
	p.set("shop.example", nil)
	soon(t, "it is gone", func() bool {
		_,
			err := e.Certificate(t.Context(), "shop.example")
		return errors.Is(err, ErrNotExist)
	})
	if e.Held() != 0 {
		t.Errorf("%d are held", e.Held())
	}
}

// Sessions of a name that was removed must not go on, however long the removal is ago; those of
// one that is only not held, or whose source hangs, may.
func TestWhatIsRemovedIsNotServedAnyMore(t *testing.T) {
	p := newPlane(t)
	p.issue("shop.example")
	p.issue("cold.example")
	p.issue("slow.example")
	p.mu.Lock()
	p.hangs["slow.example"] = true
	p.mu.Unlock()
	p.turn("default", 1)
	e := p.edge(Config{})
	<-e.Ready()
	e.serves(t, "shop.example")
	if !e.Serves("shop.example") || !e.Serves("cold.example") {
		t.Error("what is there is not served")
	}
	began := time.Now()
	if !e.Serves("slow.example") || time.Since(began) > 3*time.Second {
		t.Errorf("a source that hangs: %s", time.Since(began))
	}
	p.set("shop.example", nil)
	soon(t, "it is not served", func() bool { return !e.Serves("shop.example") })
	e.absent.InvalidateAll() // as time does
	if e.Serves("shop.example") {
		t.Error("it is served again")
	}
	p.stop()
	soon(t, "the stream has ended", func() bool { return !e.Current() })
	e.absent.InvalidateAll()
	if !e.Serves("never-asked.example") || !e.Serves("cold.example") {
		t.Error("without a control plane nothing is known to be gone")
	}
}

func TestASourceThatHangsFailsItsOwnNamesAtTheirDeadline(t *testing.T) {
	p := newPlane(t)
	p.issue("shop.example")
	p.hangs["slow.example"] = true
	e := p.edge(Config{Wait: 300 * time.Millisecond})
	var g sync.WaitGroup
	for range 20 {
		g.Go(func() {
			if _, err := e.Certificate(t.Context(), "slow.example"); !errors.Is(err, ErrTimeout) {
				t.Errorf("%v", err)
			}
		})
	}
	if got := e.serves(t, "shop.example"); strings.Contains(got, " ") {
		t.Errorf("meanwhile: %s", got)
	}
	g.Wait()
	soon(t, "nobody waits for it any more", func() bool { return p.saw(xds.Dropped, "slow.example") == 1 })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := e.Certificate(ctx, "slow.example"); !errors.Is(err, ErrTimeout) {
		t.Errorf("a client that is gone: %v", err)
	}
}

func TestAScanOfNamesDoesNotEmptyTheCache(t *testing.T) {
	p := newPlane(t)
	p.issue("*.scan.example", "*.scan.example")
	e := p.edge(Config{Names: 300})
	scan := func(i int) string { return strings.Replace(host(i), ".example", ".scan.example", 1) }
	for i := range 300 { // the cache counts who is asked for how often from when it is half full
		e.serves(t, scan(1_000_000+i))
	}
	const busy = 100
	for i := range busy {
		p.issue(host(i))
	}
	for range 20 {
		for i := range busy {
			e.serves(t, host(i))
		}
		// the cache counts reads a while after them, and not all of a burst
		time.Sleep(time.Millisecond)
	}
	for i := range 5000 {
		if got := e.serves(t, scan(i)); strings.Contains(got, " ") {
			t.Fatal(got)
		}
		if i%10 == 0 {
			e.serves(t, host(i/10%busy))
		}
	}
	asked, still := 0, ""
	for i := range busy {
		e.serves(t, host(i))
		again := p.saw(xds.Asked, host(i)) - 1
		if asked += again; again == 0 {
			still = host(i)
		}
	}
	if asked > busy/2 {
		// of 600 looks; a cache that keeps what came last would have lost each of them every time
		t.Errorf("%d of %d busy names had to be loaded again", asked, busy)
	}
	soon(t, "the subscriptions of what was given up end", func() bool { return p.table.Watched() <= 300+50 })
	if n := e.Held(); n > 300+50 {
		t.Errorf("%d are held", n)
	}
	version := p.issue(still)
	soon(t, "a renewal of what stayed comes", func() bool { return p.accepted(still, version) })
}

func TestAWildcardIsHeldOnce(t *testing.T) {
	p := newPlane(t)
	p.issue("*.org.example")
	e := p.edge(Config{})
	a, err := e.Certificate(t.Context(), "a.org.example")
	check(t, err)
	b, err := e.Certificate(t.Context(), "b.org.example")
	check(t, err)
	if a != b {
		t.Error("it is held twice")
	}
}

func TestABadCertificateIsRefusedAndTheLastGoodOneStays(t *testing.T) {
	p := newPlane(t)
	p.issue("shop.example")
	p.issue("other.example")
	e := p.edge(Config{})
	good := e.serves(t, "shop.example")
	p.mu.Lock()
	strange := p.certs["other.example"]
	p.mu.Unlock()
	p.set("shop.example", &strange) // it is for another name
	soon(t, "it is refused", func() bool { return p.saw(xds.Refused, "shop.example") > 0 })
	if got := e.serves(t, "shop.example"); got != good {
		t.Errorf("%s is served", got)
	}
	broken := strange
	broken.Key = []byte("-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n")
	p.set("other.example", &broken)
	if _, err := e.Certificate(t.Context(), "other.example"); err == nil || strings.Contains(err.Error(), "MAA") {
		t.Errorf("%v", err)
	}
	p.issue("shop.example")
	soon(t, "a good one comes through", func() bool { return e.serves(t, "shop.example") != good })
}

func TestWhatHasExpiredIsNotServed(t *testing.T) {
	p := newPlane(t)
	p.put("shop.example", fleet.Leaf{Names: []string{"shop.example"}, Valid: 3 * time.Second})
	e := p.edge(Config{Wait: 200 * time.Millisecond})
	if got := e.serves(t, "shop.example"); strings.Contains(got, " ") {
		t.Fatal(got)
	}
	p.stop()
	soon(t, "it is not served", func() bool {
		_,
			err := e.Certificate(t.Context(), "shop.example")
		return errors.Is(err, ErrTimeout)
	})
}

func TestWhatIsHeldServesWithoutAControlPlane(t *testing.T) {
	p := newPlane(t)
	p.issue("shop.example")
	p.turn("default", 1)
	e := p.edge(Config{Wait: 100 * time.Millisecond})
	good := e.serves(t, "shop.example")
	<-e.Ready()
	p.stop()
	for range 20 {
		if got := e.serves(t, "shop.example"); got != good {
			t.Fatal(got)
		}
		if _, err := e.Certificate(t.Context(), "cold.example"); !errors.Is(err, ErrTimeout) {
			t.Fatal(err)
		}
	}
}

func TestARingIsAcceptedWhenItIsInUse(t *testing.T) {
	p := newPlane(t)
	e := p.edge(Config{Scopes: []string{"default", "partners"}})
	p.turn("default", 1)
	soon(t, "the ring is in use", func() bool { return e.uses("default") != "" })
	select {
	case <-e.Ready():
		t.Error("ready without the ring of a scope")
	default:
	}
	p.turn("partners", 1)
	<-e.Ready()
	e.mu.Lock()
	e.fail = errors.New("cannot be used now")
	e.mu.Unlock()
	r := p.turn("default", 2)
	soon(t, "it is refused", func() bool { return p.saw(xds.Refused, "tickets/default") > 0 })
	if p.accepted("tickets/default", r.Version()) {
		t.Error("it was accepted too")
	}
}

func TestPreloadedNamesAreAskedForAtTheStartAndStay(t *testing.T) {
	p := newPlane(t)
	p.issue("shop.example")
	p.issue("*.scan.example")
	e := p.edge(Config{Names: 10, Preload: []keysource.Name{"shop.example", "later.example"}})
	soon(t, "it is asked for", func() bool { return p.saw(xds.Asked, "shop.example") == 1 })
	for i := range 200 {
		e.serves(t, strings.Replace(host(i), ".example", ".scan.example", 1))
	}
	e.serves(t, "shop.example")
	if n := p.saw(xds.Asked, "shop.example") + p.saw(xds.Dropped, "shop.example"); n != 1 {
		t.Errorf("it was asked for again, or dropped: %d", n)
	}
	p.issue("later.example")
	soon(t, "one that was absent comes by itself", func() bool { return p.saw(xds.Accepted, "later.example") > 0 })
	if got := e.serves(t, "later.example"); strings.Contains(got, " ") {
		t.Error(got)
	}
}

// accepted reports whether the version of the name was.
func (p *plane) accepted(name, version string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.events {
		if e.Kind == xds.Accepted && e.Name == name && e.Version == version {
			return true
		}
	}
	return false
}
