package fleet

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-tls/lockstep/rotation"
)

// book is what Record writes into.
type book struct {
	mu      sync.Mutex
	err     error
	changes []Change
}

func (b *book) record(_ context.Context, _ string, c Change) (string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return "", b.err
	}
	b.changes = append(b.changes, c)
	return fmt.Sprint("line ", len(b.changes)), nil
}

func (b *book) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.err = err
}

// accept is what a mute client says at last.
func (p *plane) accept(c *client) { p.Accepted(c.stream, "default", p.Version("default")) }

func (b *book) said() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []string
	for _, c := range b.changes {
		for _, l := range c.Lines {
			out = append(out, string(l.What))
		}
	}
	return strings.Join(out, " ")
}

var errNoInk = errors.New("no ink")

func TestAChangeIsWrittenDownBeforeItIsMade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, b := newFaulty(), &book{}
		p := start(t, s, "r1", func(c *Config) { c.Record = b.record })
		p.connect("a", "")
		p.phase(time.Second, rotation.Steady, 1)
		s.set(func(_ context.Context, op, key string) error {
			if st, _ := p.Status("default"); op == "swap" && key == "ring/default" &&
				len(st.History) >= (strings.Count(b.said(), " ")+1) {
				t.Errorf("the ring is written, and the book ends with %q", b.said())
			}
			return nil
		}, nil)
		p.rotate()
		p.phase(time.Second, rotation.Steady, 3)
		if got := b.said(); got != "done distributing promoting done" {
			t.Fatal(got)
		}
		for i, c := range b.changes {
			if want := map[bool]string{true: "", false: fmt.Sprint("line ", i)}[i == 0]; c.After != want {
				t.Errorf("change %d builds on %q, want %q", i, c.After, want)
			}
			if len(c.Keys) != len(c.Lines) || len(c.Keys[0]) != 64 {
				t.Errorf("change %d has the keys %q", i, c.Keys)
			}
		}
		if got := p.Audit("default"); got != "line 4" {
			t.Error(got)
		}
		if got, err := p.StoredAudit(t.Context(), "default"); got != "line 4" || err != nil {
			t.Error(got, err)
		}
		old := len(b.changes)
		if _, err := p.Burn(t.Context(), "default", "me", "stolen"); err != nil {
			t.Fatal(err)
		}
		b.mu.Lock() // the burn may be ending
		defer b.mu.Unlock()
		if c := b.changes[old]; len(c.Burnt) != 2 || c.Lines[0].By != "me" || c.Lines[0].Why != "stolen" {
			t.Errorf("%+v", c)
		}
	})
}

func TestWhatCannotBeWrittenDownIsNotMade(t *testing.T) {
	for _, shared := range []bool{false, true} {
		t.Run(fmt.Sprint("shared ", shared), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, b := newFaulty(), &book{}
				p := start(t, s, "r1", func(c *Config) { c.Record, c.Shared = b.record, shared })
				a := p.connect("a", "")
				p.phase(time.Second, rotation.Steady, 1)
				b.fail(errNoInk)
				if _, err := p.Rotate(t.Context(), "default",
					rotation.Request{By: "me"}); !errors.Is(err, ErrUnrecorded) ||
					!errors.Is(err, errNoInk) {
					t.Fatal(err)
				}
				late := p.connect("late", "") // serving goes on
				p.phase(time.Second, rotation.Steady, 1)
				if late.got() != "[1]" || a.got() != "[1]" {
					t.Fatalf("%s %s", late.got(), a.got())
				}
				// A step that nobody asked for: it waits, and is made once it can be.
				b.fail(nil)
				a.mute.Store(true)
				p.rotate()
				p.phase(time.Second, rotation.Distributing, 2)
				b.fail(errNoInk)
				p.accept(a)
				p.phase(2*time.Second, rotation.Distributing, 2)
				later := p.connect("later", "")
				p.phase(2*time.Second, rotation.Distributing, 2)
				if later.got() != "[2]" {
					t.Fatal(later.got())
				}
				if st, _ := p.Status("default"); !errors.Is(st.Err, ErrUnrecorded) {
					t.Error(st.Err)
				}
				b.fail(nil)
				p.phase(3*time.Second, rotation.Promoting, 3)
				p.accept(a)
				p.phase(time.Second, rotation.Steady, 3)
				if got := b.said(); got != "done distributing promoting done" {
					t.Error(got)
				}
				if st, _ := p.Status("default"); st.Err != nil {
					t.Error(st.Err)
				}
			})
		})
	}
}

// A swap that failed is tried again; that is one change, and one line.
func TestOneLineForAllTriesOfAChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, b := newFaulty(), &book{}
		p := start(t, s, "r1", func(c *Config) { c.Record = b.record })
		c := p.connect("a", "")
		p.phase(time.Second, rotation.Steady, 1)
		c.mute.Store(true)
		p.rotate()
		p.phase(time.Second, rotation.Distributing, 2)
		s.set(func(_ context.Context, op, key string) error {
			if op == "swap" && key == "ring/default" {
				return errDown
			}
			return nil
		}, nil)
		p.accept(c)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if got := b.said(); got != "done distributing promoting" {
			t.Errorf("after ten failed tries: %s", got)
		}
		s.set(nil, nil)
		p.phase(2*time.Second, rotation.Promoting, 3)
		p.accept(c)
		p.phase(2*time.Second, rotation.Steady, 3)
		if got := b.said(); got != "done distributing promoting done" {
			t.Error(got)
		}
	})
}
