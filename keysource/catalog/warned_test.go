package catalog

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/keysource/internal/testca"
	"github.com/lockstep-tls/lockstep/store"
	"github.com/lockstep-tls/lockstep/store/memory"
)

// issued is a chain with its intermediates, and its key.
func issued(t *testing.T, ca testca.CA, above []byte, change func(*x509.Certificate), names ...string) keysource.PEM {
	t.Helper()
	if change == nil {
		change = func(*x509.Certificate) {}
	}
	chain, key := ca.IssueAs(t, testca.Key(t), change, names...)
	return keysource.PEM{Chain: append(chain, above...), Key: key}
}

func TestPutRefusesWhatCannotServeInPlaceOfWhatCan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _, ca := setUp(t)
		inter := ca.Intermediate(t)
		was, err := c.Put(t.Context(), "a.example", issued(t, inter, inter.PEM, nil, "a.example"))
		if err != nil {
			t.Fatal(err)
		}
		later := func(in time.Duration) func(*x509.Certificate) {
			at := time.Now().Truncate(time.Second).Add(in)
			return func(c *x509.Certificate) { c.NotBefore = at }
		}
		for name, p := range map[string]struct {
			keysource.PEM
			words string
		}{
			"alone":             {issued(t, inter, nil, nil, "a.example"), "without the intermediate"},
			"valid in a minute": {issued(t, inter, inter.PEM, later(time.Minute), "a.example"), "not valid before"},
			"valid in an hour":  {issued(t, inter, inter.PEM, later(time.Hour), "a.example"), "not valid before"},
		} {
			_, err := c.Put(t.Context(), "a.example", p.PEM)
			other := Pair{"b.example", issued(t, ca, nil, nil, "b.example")}
			all, many := c.PutAll(t.Context(), []Pair{{"a.example", p.PEM}, other})
			if many != nil {
				t.Fatal(many)
			}
			for _, err := range []error{err, all[0].Err} {
				if !errors.Is(err, keysource.ErrBadCertificate) || !strings.Contains(err.Error(), p.words) {
					t.Errorf("%s: %v", name, err)
				}
			}
			if all[1].Err != nil {
				t.Errorf("%s: another one is refused with it: %v", name, all[1].Err)
			}
			if have, err := c.Certificate(t.Context(), "a.example"); err != nil || have.Version() != was.Version() {
				t.Errorf("%s: the one before is gone: %v", name, err)
			}
		}

		at := time.Now().Truncate(time.Second).Add(5 * time.Second)
		next, err := c.Put(t.Context(), "a.example", issued(t, inter, inter.PEM, later(5*time.Second), "a.example"))
		if err != nil || len(next.Warnings) > 0 || time.Now().Before(at) {
			t.Errorf("valid in seconds: %v, %v at %s", err, next.Warnings, time.Now())
		}
	})
}

func TestAFirstCertificateIsStoredWithItsWarnings(t *testing.T) {
	c, _, ca := setUp(t)
	p := issued(t, ca, nil, func(c *x509.Certificate) {
		c.IssuingCertificateURL = []string{"http://ca.example/int.crt"}
		c.NotBefore = time.Now().Add(time.Minute)
	}, "a.example")
	for range 2 { // the second one is the same
		got, err := c.Put(t.Context(), "a.example", p)
		if err != nil || len(got.Warnings) != 1 || len(got.WarningsAt(time.Now())) != 2 {
			t.Fatalf("%v, %q", err, got.Warnings)
		}
	}
	if all := c.Warned(); len(all) != 1 || all[0].Name != "a.example" {
		t.Errorf("%+v", all)
	}
}

func TestReplicasAgreeOnWarnings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := store.OneByOne(memory.New())
		run := func() *Catalog {
			c := New(Config{Store: s})
			done := make(chan struct{})
			go func() { defer close(done); _ = c.Run(t.Context()) }()
			t.Cleanup(func() { <-done })
			<-c.Ready()
			return c
		}
		a, b := run(), run()
		ca := testca.New(t)
		put := func(c *Catalog, names ...string) keysource.Certificate {
			t.Helper()
			got, err := c.Put(t.Context(), "a.example", issued(t, ca, nil, nil, names...))
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(6 * time.Second)
			synctest.Wait()
			return got
		}
		want := func(words string, replicas ...*Catalog) {
			t.Helper()
			for _, c := range replicas {
				var all []string
				for _, w := range c.Warned() {
					all = append(all, w.Warnings...)
				}
				var listed []string
				for e, err := range c.List(t.Context(), "", "") {
					if err != nil {
						t.Fatal(err)
					}
					listed = append(listed, e.Warnings...)
				}
				got, err := c.Certificate(t.Context(), "a.example")
				if err != nil || !slices.Equal(got.Warnings, all) || !slices.Equal(listed, all) {
					t.Errorf("%v: %q, listed %q, known %q", err, got.Warnings, listed, all)
				}
				if text := strings.Join(all, "; "); (words == "") != (text == "") || !strings.Contains(text, words) {
					t.Errorf("warned of %q, not %q", text, words)
				}
			}
		}
		put(a, "a.example", "b.example")
		want("", a, b)
		if got := put(a, "a.example"); len(got.Warnings) != 1 {
			t.Errorf("%q", got.Warnings)
		}
		want("not for b.example", a, b, run())
		put(b, "a.example", "c.example")
		want("", a, b, run())
		put(b, "a.example")
		want("not for c.example", a, b)

		// A version before this one writes no warnings, and knows of none.
		key, p := key("a.example"), issued(t, ca, nil, nil, "a.example")
		_, next, err := admit("a.example", p, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		_, rev, err := s.Get(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Swap(t.Context(), key, rev, next.val); err != nil {
			t.Fatal(err)
		}
		time.Sleep(6 * time.Second)
		synctest.Wait()
		want("", a, b, run())

		put(a, "a.example", "d.example")
		put(a, "a.example")
		if err := a.Remove(t.Context(), "a.example"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(6 * time.Second)
		synctest.Wait()
		for _, c := range []*Catalog{a, b, run()} {
			if all := c.Warned(); len(all) > 0 {
				t.Errorf("removed: %+v", all)
			}
		}
	})
}

// A fleet that changes its CA must not fill the store with warnings.
func TestWarningsAreBounded(t *testing.T) {
	c, s, _ := setUp(t)
	var all []warning
	for i := range 2 * maxWarned {
		n := keysource.Name("h" + strings.Repeat("x", i%50) + ".example")
		all = append(all, warning{n + keysource.Name(rune('a'+i/50)), "v", []string{"another CA"}})
	}
	c.warn(t.Context(), all)
	n := 0
	for _, err := range s.Keys(t.Context(), warnings) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n != maxWarned {
		t.Errorf("%d warnings are stored", n)
	}
}

// An RSA certificate that moves to its second name is still there.
func TestAHostWithASecondCertificateIsNotWarnedOfItsKey(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	check(t, err)
	const host, second = "a.example", "a.example:rsa"
	for name, add := range map[string]func(c, other *Catalog, ec, rsa keysource.PEM) []string{
		"one after the other": func(c, other *Catalog, ec, rsa keysource.PEM) []string {
			first, err := c.Put(t.Context(), host, ec)
			check(t, err)
			if len(first.Warnings) != 1 { // it is right so far
				t.Errorf("%q", first.Warnings)
			}
			_, err = other.Put(t.Context(), second, rsa)
			check(t, err)
			return nil
		},
		"at once": func(c, _ *Catalog, ec, rsa keysource.PEM) []string {
			out, err := c.PutAll(t.Context(), []Pair{{second, rsa}, {host, ec}})
			check(t, err)
			return slices.Concat(out[0].Warnings, out[1].Warnings)
		},
		"one import after the other": func(c, other *Catalog, ec, rsa keysource.PEM) []string {
			_, err := c.PutAll(t.Context(), []Pair{{host, ec}})
			check(t, err)
			out, err := other.PutAll(t.Context(), []Pair{{second, rsa}})
			check(t, err)
			return out[0].Warnings
		},
	} {
		c, s, ca := setUp(t)
		other := New(Config{Store: s})
		chain, keyPEM := ca.IssueFor(t, key, testca.NotAfter, host)
		rsa := keysource.PEM{Chain: chain, Key: keyPEM}
		_, err := c.Put(t.Context(), host, rsa)
		check(t, err)
		if words := add(c, other, issued(t, ca, nil, nil, host), rsa); len(words) > 0 {
			t.Errorf("%s: %q", name, words)
		}
		for _, look := range []*Catalog{c, other} {
			look.lookForWarnings(t.Context(), 0)
			if all := look.Warned(); len(all) > 0 {
				t.Errorf("%s: %+v", name, all)
			}
		}
	}
}
