package dir

import (
	"crypto/x509"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/keysource/internal/testca"
	"github.com/lockstep-tls/lockstep/keysource/renewal"
)

// noted keeps what a Dir noted.
type noted struct {
	mu  sync.Mutex
	all []Change
}

func (n *noted) note(c Change) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.all = append(n.all, c)
}

func (n *noted) take() []Change {
	n.mu.Lock()
	defer n.mu.Unlock()
	all := n.all
	n.all = nil
	return all
}

// pass lets time pass, and what it sets off happen.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestAHalfWrittenChainIsWaitedFor(t *testing.T) {
	for _, after := range []time.Duration{time.Second, renewal.Settle - time.Second} {
		synctest.Test(t, func(t *testing.T) {
			root, ca := t.TempDir(), testca.New(t)
			first, second := ca.Intermediate(t), ca.Intermediate(t)
			folder := filepath.Join(root, "shop.example")
			chain, key := first.Issue(t, "shop.example")
			v := putPEM(t, folder, append(chain, first.PEM...), key)
			b := start(t, root, false, func(c *Config) { c.Rescan = time.Second })
			b.wants("shop.example", v)
			pass(6 * time.Second)

			// The leaf is of another intermediate, of which nothing is known.
			key2 := testca.Key(t)
			chain, key = second.IssueFor(t, key2, testca.NotAfter, "shop.example")
			whole := append(slices.Clone(chain), second.PEM...)
			replace(t, filepath.Join(folder, crtFile), chain)
			replace(t, filepath.Join(folder, keyFile), key)
			for range int(after / time.Second) {
				pass(time.Second)
				b.wants("shop.example", v)
			}
			replace(t, filepath.Join(folder, crtFile), whole)
			pass(6 * time.Second)
			b.wants("shop.example", version(t, whole, key))
			if e := b.entry("shop.example"); e.Problem != "" || len(e.Warnings)+len(e.Notes) > 0 {
				t.Errorf("a whole chain: %+v", e)
			}
		})
	}
}

func TestAShorterChainIsServedInTheEndWithAWarning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root, ca := t.TempDir(), testca.New(t)
		cross := ca.Intermediate(t)
		inter := cross.Intermediate(t)
		folder := filepath.Join(root, "shop.example")
		chain, key := inter.Issue(t, "shop.example")
		v := putPEM(t, folder, slices.Concat(chain, inter.PEM, cross.PEM), key)
		var n noted
		b := start(t, root, false, func(c *Config) { c.Noted = n.note })
		b.wants("shop.example", v)
		pass(6 * time.Second)
		n.take()

		short := putPEM(t, folder, slices.Concat(chain, inter.PEM), key)
		pass(7 * time.Second)
		b.wants("shop.example", v)
		e := b.entry("shop.example")
		if e.Problem != "" || len(e.Warnings) > 0 || !strings.Contains(strings.Join(e.Notes, ""), "shorter chain") {
			t.Errorf("before it is believed: %+v", e)
		}
		pass(renewal.Settle)
		b.wants("shop.example", short)
		if e := b.entry("shop.example"); e.Problem != "" || len(e.Warnings) != 1 ||
			!strings.Contains(e.Warnings[0], "became shorter") {
			t.Errorf("believed: %+v", e)
		}
		if all := n.take(); len(all) != 1 || all[0].What != Taken || len(all[0].Certificate.Warnings) != 1 {
			t.Errorf("noted %+v", all)
		}
		c, err := b.Certificate(t.Context(), "shop.example")
		if err != nil || len(c.Warnings) != 1 {
			t.Errorf("got %+v, %v", c.Warnings, err)
		}

		chain, key = inter.Issue(t, "shop.example")
		putPEM(t, folder, slices.Concat(chain, inter.PEM), key)
		pass(6 * time.Second)
		if e := b.entry("shop.example"); len(e.Warnings) > 0 {
			t.Errorf("the next renewal: %+v", e)
		}
	})
}

func TestALostIntermediateLeavesTheOneBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root, ca := t.TempDir(), testca.New(t)
		inter := ca.Intermediate(t)
		folder := filepath.Join(root, "shop.example")
		chain, key := inter.Issue(t, "shop.example")
		v := putPEM(t, folder, append(chain, inter.PEM...), key)
		var n noted
		b := start(t, root, false, func(c *Config) { c.Noted = n.note })
		b.wants("shop.example", v)
		n.take()

		chain, key = inter.Issue(t, "shop.example")
		putPEM(t, folder, chain, key)
		pass(time.Hour)
		b.wants("shop.example", v)
		if e := b.entry("shop.example"); !strings.Contains(e.Problem, "without the intermediate") || e.Version != v {
			t.Errorf("%+v", e)
		}
		if all := n.take(); len(all) != 1 || all[0].What != Refused || all[0].Kept != v {
			t.Errorf("noted %+v", all)
		}
		if why := b.Problem("shop.example"); !strings.Contains(why, "without the intermediate") {
			t.Errorf("explained as %q", why)
		}

		whole := putPEM(t, folder, append(chain, inter.PEM...), key)
		pass(6 * time.Second)
		b.wants("shop.example", whole)
		if e := b.entry("shop.example"); e.Problem != "" || len(e.Warnings) > 0 {
			t.Errorf("%+v", e)
		}
	})
}

// It is taken when it becomes valid, although nobody touches the files and no rescan is near.
func TestWhatIsNotValidYetIsTakenWhenItIs(t *testing.T) {
	for _, in := range []time.Duration{3 * time.Second, 4 * time.Minute, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			root, ca := t.TempDir(), testca.New(t)
			v := put(t, ca, root, "shop.example")
			b := start(t, root, false, func(c *Config) { c.Rescan = 10 * time.Second })
			b.wants("shop.example", v)
			synctest.Wait()
			at := time.Now().Truncate(time.Second).Add(in + 10*time.Second)
			chain, key := ca.IssueAs(t, testca.Key(t), func(c *x509.Certificate) { c.NotBefore = at }, "shop.example")
			next := putPEM(t, filepath.Join(root, "shop.example"), chain, key)
			pass(time.Until(at) - time.Millisecond)
			b.wants("shop.example", v)
			if e := b.entry("shop.example"); in > 3*time.Second && !strings.Contains(e.Problem, "not valid before") {
				t.Errorf("%s before: %+v", in, e)
			}
			pass(2 * time.Millisecond)
			b.wants("shop.example", next)
			if e := b.entry("shop.example"); e.Problem != "" || len(e.Warnings) > 0 {
				t.Errorf("%s: %+v", in, e)
			}
		})
	}
}

func TestAFirstCertificateIsServedWithItsWarnings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root, ca := t.TempDir(), testca.New(t)
		at := time.Now().Add(time.Minute)
		chain, key := ca.IssueAs(t, testca.Key(t), func(c *x509.Certificate) {
			c.NotBefore, c.IssuingCertificateURL = at, []string{"http://ca.example/int.crt"}
		}, "shop.example")
		v := putPEM(t, filepath.Join(root, "shop.example"), chain, key)
		b := start(t, root, false)
		b.wants("shop.example", v)
		if e := b.entry("shop.example"); len(e.Warnings) != 2 || e.Problem != "" {
			t.Errorf("%+v", e)
		}
		pass(time.Hour)
		if e := b.entry("shop.example"); len(e.Warnings) != 1 || !strings.Contains(e.Warnings[0], "leaf alone") {
			t.Errorf("once it is valid: %+v", e)
		}
	})
}

func TestWarningsOutliveARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root, ca := t.TempDir(), testca.New(t)
		v := put(t, ca, root, "shop.example")
		b := start(t, root, false, func(c *Config) {
			c.Last = func(keysource.Name) renewal.Last {
				return renewal.Last{Version: v, Warnings: []string{"as before"}}
			}
		})
		synctest.Wait()
		if e := b.entry("shop.example"); !slices.Equal(e.Warnings, []string{"as before"}) {
			t.Errorf("before it was asked for: %+v", e)
		}
		b.wants("shop.example", v)
		if e := b.entry("shop.example"); !slices.Equal(e.Warnings, []string{"as before"}) {
			t.Errorf("%+v", e)
		}
		put(t, ca, root, "shop.example")
		pass(6 * time.Second)
		if e := b.entry("shop.example"); len(e.Warnings) > 0 {
			t.Errorf("replaced: %+v", e)
		}
	})
}

// Nodes may have the one before. So a start must not push them one that most clients refuse.
func TestALostIntermediateIsNotServedAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root, ca := t.TempDir(), testca.New(t)
		inter := ca.Intermediate(t)
		folder := filepath.Join(root, "shop.example")
		chain, key := inter.Issue(t, "shop.example")
		last := renewal.Last{
			Version: "before", NotAfter: time.Now().Add(time.Hour),
			Intermediates: []string{inter.Cert.Subject.String()},
		}
		alone := putPEM(t, folder, chain, key)
		b := start(t, root, false, func(c *Config) { c.Last = func(keysource.Name) renewal.Last { return last } })
		b.fails("shop.example", "without the intermediate")
		pass(6 * time.Second)
		b.news()
		if e := b.entry("shop.example"); !strings.Contains(e.Problem, "without the intermediate") {
			t.Errorf("%+v", e)
		}
		pass(time.Hour)
		b.wants("shop.example", alone) // the one before has expired
		if e := b.entry("shop.example"); len(e.Warnings) != 1 || e.Problem != "" {
			t.Errorf("%+v", e)
		}
		if got := b.news(); !slices.Equal(got, []keysource.Name{"shop.example"}) {
			t.Errorf("told %v", got)
		}
	})
}

// The same goes for one that is not valid yet.
func TestWhatIsNotValidYetIsNotServedAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root, ca := t.TempDir(), testca.New(t)
		at := time.Now().Truncate(time.Second).Add(4 * time.Minute)
		chain, key := ca.IssueAs(t, testca.Key(t), func(c *x509.Certificate) { c.NotBefore = at }, "shop.example")
		next := putPEM(t, filepath.Join(root, "shop.example"), chain, key)
		last := renewal.Last{Version: "before", NotAfter: time.Now().Add(time.Hour)}
		b := start(t, root, false, func(c *Config) { c.Last = func(keysource.Name) renewal.Last { return last } })
		b.fails("shop.example", "not valid before")
		pass(time.Until(at) + time.Millisecond)
		b.wants("shop.example", next)
		if got := b.news(); !slices.Contains(got, "shop.example") {
			t.Errorf("told %v", got)
		}
		if e := b.entry("shop.example"); e.Problem != "" || len(e.Warnings) > 0 {
			t.Errorf("%+v", e)
		}
	})
}
