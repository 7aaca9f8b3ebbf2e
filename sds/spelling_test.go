package sds

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/xds"
)

// caller is a stream that holds names.
type caller struct {
	l       *lab
	t       *testing.T
	node    xds.Node
	mailbox *xds.Mailbox
}

func (l *lab) caller(t *testing.T, stream uint64, svc xds.Service) caller {
	return caller{l, t, node(stream, svc), xds.NewMailbox()}
}

// ask watches a name and returns what becomes of it, as Envoy does: it lets go of what is absent.
func (c caller) ask(name string) string {
	c.t.Helper()
	c.l.Watch(c.node, name, c.mailbox)
	synctest.Wait()
	got := c.look(name)
	if got == "absent" {
		c.leave(name)
	}
	return got
}

func (c caller) leave(name string) { c.l.Unwatch(c.node, name, c.mailbox) }

func (c caller) look(name string) string {
	res, state := c.l.Lookup(c.node, name)
	switch state {
	case xds.NotYet:
		return "-"
	case xds.Absent:
		return "absent"
	}
	return string(secret(c.t, res).GetTlsCertificate().GetCertificateChain().GetInlineBytes())
}

func (c caller) want(name, want string) {
	c.t.Helper()
	if got := c.ask(name); got != want {
		c.t.Errorf("stream %d, %s: %s, want %s", c.node.Stream, name, got, want)
	}
}

// idle demands that nothing is kept of streams that are gone.
func (l *lab) idle(t *testing.T) {
	t.Helper()
	if len(l.Table.certs)+len(l.dependents)+len(l.spellings.streams) != 0 {
		t.Errorf("kept: %d names, %d under others, %d streams", len(l.Table.certs), len(l.dependents),
			len(l.spellings.streams))
	}
}

// shut demands what RefusedSpelling says.
func (l *lab) shut(t *testing.T, stream uint64, asked, want string) {
	t.Helper()
	got := ""
	for _, s := range l.RefusedSpellings(stream, asked) {
		got += s.Asked + " since " + s.Held
	}
	if got != want {
		t.Errorf("stream %d, %s: shut %q, want %q", stream, asked, got, want)
	}
}

func TestARememberedAbsenceHasAnEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab()
		defer l.start(t)()
		c := l.caller(t, 1, xds.ADS)
		until := func() time.Duration { return max(time.Until(l.AbsentUntil("none.example")), 0) }
		if until() != 0 {
			t.Error("nobody has looked yet")
		}
		c.want("none.example", "absent")
		if until() != cacheFor {
			t.Errorf("remembered for %v", until())
		}
		l.Refresh([]keysource.Name{"none.example"})
		if until() != 0 {
			t.Error("it has changed since")
		}
		c.want("none.example", "absent")
		if time.Sleep(cacheFor); until() != 0 {
			t.Error("it is not remembered any more")
		}
	})
}

func TestTwoSpellingsOfANameAndNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab()
		l.set("shop.example", "S")
		defer l.start(t)()
		c := l.caller(t, 1, xds.ADS)
		c.want("Shop.example", "S")
		c.want("sHop.example", "absent")
		c.want("shop.example.", "absent")
		c.want("shop.example", "S") // the normal one never loses its place
		c.want("SHOP.EXAMPLE", "absent")
		l.shut(t, 1, "shop.example", "")
		l.shut(t, 1, "Shop.example", "")
		l.shut(t, 1, "SHOP.EXAMPLE", "SHOP.EXAMPLE since Shop.example")
		l.shut(t, 2, "SHOP.EXAMPLE", "")
		l.Watch(c.node, "shOP.example", c.mailbox) // it has not let go yet
		l.shut(t, 1, "shop.example", "shOP.example since Shop.example")
		c.leave("shOP.example")
		l.caller(t, 2, xds.ADS).want("SHOP.EXAMPLE", "S")
		l.caller(t, 3, xds.SDS).want("sHOP.EXAMPLE", "S") // an operator's configuration asks there
		c.leave("Shop.example")
		c.want("sHop.example", "S")
		if n := l.SpellingsRefused(); n != 4 {
			t.Errorf("%d spellings were refused", n)
		}
		if n := l.called("shop.example"); n != 5 {
			t.Errorf("%d loads for five spellings that were let in", n)
		}
		c.leave("sHop.example")
		c.leave("shop.example")
		l.Unwatch(node(2, xds.ADS), "SHOP.EXAMPLE", nil)
	})
}

// TestAChainIsNoSpelling: what clients sent before a host was pinned does not keep its chain from
// its certificate, nor the other way round.
func TestAChainIsNoSpelling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab()
		l.set("shop.example", "S")
		defer l.start(t)()
		c := l.caller(t, 1, xds.ADS)
		c.want("SHOP.example", "S")
		c.want("chain:shop.example", "S")
		c.want("chain:SHOP.example", "absent") // no chain of ours asks so
		c.want("sds://shop.example", "absent")
		c.leave("SHOP.example")
		c.want("sds://shop.example", "S") // one other spelling, whichever
	})
}

// TestWhatIsBoundedTogether: what a wildcard alone covers, and no more.
func TestWhatIsBoundedTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab()
		l.set("*.shop.example", "W")
		l.set("own.shop.example", "O")
		defer l.start(t)()
		c := l.caller(t, 1, xds.ADS)
		group := func(asked, chain, want string) {
			t.Helper()
			c.want(asked, chain)
			if res, _ := l.Lookup(c.node, asked); res == nil || res.Group != want {
				t.Errorf("%s is of the group of %v, want %q", asked, res, want)
			}
		}
		group("a.shop.example", "W", "*.shop.example")
		group("A.shop.example", "W", "*.shop.example")
		group("own.shop.example", "O", "")
		group("*.shop.example", "W", "")
		// an operator chose it, no stranger
		group(keysource.ChainName("pinned.shop.example"), "W", "")
		if n := l.called("*.shop.example"); n != 1 {
			t.Errorf("the wildcard was looked up %d times", n)
		}
		l.set("a.shop.example", "W") // the same certificate, as its own
		l.Refresh([]keysource.Name{"a.shop.example"})
		synctest.Wait()
		group("a.shop.example", "W", "")
	})
}

// TestRefusalsUseNothingUp: whoever is refused leaves nothing, and a stream that does not let go
// of it is told the same again.
func TestRefusalsUseNothingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab()
		l.set("*.shop.example", "W")
		defer l.start(t)()
		c := l.caller(t, 1, xds.ADS)
		for i := range 1000 {
			c.want(fmt.Sprintf("u%d.nowhere.example", i), "absent")
			c.want(fmt.Sprintf("U%d.nowhere.example", i), "absent")
			c.want(fmt.Sprintf("%d.\x00", i), "absent")
		}
		l.idle(t)
		c.want("A.shop.example", "W")
		l.Watch(c.node, "a.Shop.example", c.mailbox)
		synctest.Wait()
		for range 3 {
			if got := c.look("a.Shop.example"); got != "absent" {
				t.Errorf("%s", got)
			}
		}
		c.leave("A.shop.example")
		if got := c.look("a.Shop.example"); got != "absent" {
			t.Errorf("while it stays: %s", got)
		}
		c.leave("a.Shop.example")
		l.idle(t)
	})
}

func TestAbsencesAreRememberedUntilSomebodySaysOtherwise(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab()
		defer l.start(t)()
		c := l.caller(t, 1, xds.ADS)
		for range 100 {
			c.want("new.shop.example", "absent")
		}
		for _, n := range []keysource.Name{"new.shop.example", "*.shop.example"} {
			if calls := l.called(n); calls != 1 {
				t.Errorf("%s was looked up %d times", n, calls)
			}
		}
		l.set("new.shop.example", "N")
		c.want("new.shop.example", "absent")
		l.Refresh([]keysource.Name{"new.shop.example"})
		c.want("new.shop.example", "N")

		c.want("late.example", "absent") // nobody says so: it is found some time later
		l.set("late.example", "L")
		time.Sleep(cacheFor)
		c.want("late.example", "L")

		l.set("down.example", "!")
		for range 3 {
			c.want("down.example", "-")
			c.leave("down.example")
		}
		if calls := l.called("down.example"); calls != 3 {
			t.Errorf("what could not be looked up was remembered: %d looks", calls)
		}
		c.leave("new.shop.example")
		c.leave("late.example")
		l.idle(t)
	})
}

// TestAnAbsenceThatWasReadBeforeAChangeIsNotRemembered: the look-up is under way while the
// certificate is put.
func TestAnAbsenceThatWasReadBeforeAChangeIsNotRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab()
		slow := &slowSource{Source: l.source, read: make(chan struct{}), free: make(chan struct{})}
		l.Table.cfg.Sources = keysource.Sources{slow}
		defer l.start(t)()
		c := l.caller(t, 1, xds.ADS)
		l.Watch(c.node, "new.example", c.mailbox)
		<-slow.read
		c.leave("new.example")
		l.set("new.example", "N")
		l.Refresh([]keysource.Name{"new.example"})
		close(slow.free)
		synctest.Wait()
		c.want("new.example", "N")
	})
}

// slowSource reads, and then takes its time to say what it saw.
type slowSource struct {
	keysource.Source
	read, free chan struct{}
}

func (s *slowSource) Certificate(ctx context.Context, n keysource.Name) (keysource.Certificate, error) {
	c, err := s.Source.Certificate(ctx, n)
	select {
	case s.read <- struct{}{}:
		<-s.free
	case <-s.free:
	}
	return c, err
}

func TestRecentIsBounded(t *testing.T) {
	r := newRecent[int](4)
	now := time.Now()
	for i := range 1000 {
		n := keysource.Name(fmt.Sprint(i % 7))
		r.put(n, i, now)
		if i%3 == 0 {
			r.drop(n)
		}
		if len(r.all) > 4 {
			t.Fatalf("%d are kept", len(r.all))
		}
	}
	r.put("x", 1, now)
	if v, ok := r.get("x", now.Add(cacheFor-1)); !ok || v != 1 {
		t.Error("forgotten too early")
	}
	if _, ok := r.get("x", now.Add(cacheFor)); ok {
		t.Error("remembered too long")
	}
}

func TestDoubtIsAskedOnceForManyInventedNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab()
		asked := 0
		var doubt error
		l.Table.cfg.CheckComplete = func(context.Context, keysource.Name) error { asked++; return doubt }
		defer l.start(t)()
		c := l.caller(t, 1, xds.ADS)
		for i := range 100 {
			c.want(fmt.Sprintf("u%d.example", i), "absent")
		}
		if asked != 1 {
			t.Errorf("asked %d times", asked)
		}
		doubt = errors.New("the store was emptied")
		time.Sleep(completeFor)
		c.want("u.example", "-")
		c.leave("u.example")
	})
}

// TestASourceThatHangsHoldsUpNothingThatAnEarlierOneHas: however many names wait for it.
func TestASourceThatHangsHoldsUpNothingThatAnEarlierOneHas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, files := newLab(), newSource()
		l.Table.cfg.Sources = keysource.Sources{files, l.source}
		files.set("file.example", "F")
		for i := range 10 * loaders {
			l.set(keysource.Name(fmt.Sprintf("s%d.example", i)), "…")
		}
		defer l.start(t)()
		c := l.caller(t, 1, xds.ADS)
		for i := range 10 * loaders {
			l.Watch(c.node, fmt.Sprintf("s%d.example", i), c.mailbox)
		}
		c.want("file.example", "F")
		files.set("s1.example", "F1") // put into the first while the second hangs
		l.Refresh([]keysource.Name{"s1.example"})
		time.Sleep(loadWithin + retryFirst) // its load that hangs, if there is one, ends first
		synctest.Wait()
		if got := c.look("s1.example"); got != "F1" {
			t.Errorf("s1: %s", got)
		}
		if got := c.look("s300.example"); got != "-" {
			t.Errorf("s300: %s", got)
		}
	})
}
