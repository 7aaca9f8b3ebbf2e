package catalog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/keysource/internal/testca"
	"github.com/lockstep-tls/lockstep/store"
	"github.com/lockstep-tls/lockstep/store/guard"
	"github.com/lockstep-tls/lockstep/store/memory"
)

func TestPutAllStoresWhatIsGoodAndNamesWhatIsNot(t *testing.T) {
	s := memory.New()
	var asked []Stored
	calls := 0
	c := New(Config{Store: store.OneByOne(s), BeforeAll: func(_ context.Context, news []Stored) error {
		calls++
		asked = news
		return nil
	}})
	ca := testca.New(t)
	pair := func(n keysource.Name, of string) Pair {
		chain, key := ca.Issue(t, of)
		return Pair{n, keysource.PEM{Chain: chain, Key: key}}
	}
	kept := pair("kept.example", "kept.example")
	_, err := c.Put(t.Context(), kept.Name, kept.PEM)
	check(t, err)
	plant(t, s, "cert/broken.example", []byte("{"))
	first, second := pair("twice.example", "twice.example"), pair("twice.example", "twice.example")
	spaced, spacedKey := ca.Issue(t, "kept.example")
	pairs := []Pair{
		pair("new.example", "new.example"),
		kept,
		pair("wrong.example", "other.example"),
		pair("broken.example", "broken.example"),
		{"cut.example", keysource.PEM{Chain: kept.Chain[:100], Key: kept.Key}},
		first,
		second,
		{"Bad Name", kept.PEM},
		{"kept.example", keysource.PEM{Chain: append([]byte("another one\n"), spaced...), Key: spacedKey}},
		pair("*.wild.example", "*.wild.example"),
	}
	out, err := c.PutAll(t.Context(), pairs)
	check(t, err)
	for i, want := range []struct {
		same bool
		err  error
	}{{}, {same: true}, {err: keysource.ErrBadCertificate}, {}, {err: keysource.ErrBadCertificate}, {}, {},
		{err: keysource.ErrBadName}, {}, {}} {
		if out[i].Same != want.same || !errors.Is(out[i].Err, want.err) || want.err == nil && out[i].Err != nil {
			t.Errorf("%d %s: %+v, want %+v", i, pairs[i].Name, out[i], want)
		}
	}
	if calls != 1 || len(asked) != 6 { // those that change, and each that comes twice
		t.Errorf("asked %d times, about %v", calls, asked)
	}
	for _, p := range []Pair{pairs[0], pairs[3], second, pairs[9]} {
		got, err := c.Certificate(t.Context(), p.Name)
		if check(t, err); string(got.Chain) != string(p.Chain) {
			t.Errorf("%s is not the one that was put last", p.Name)
		}
		if i := slices.IndexFunc(asked, func(s Stored) bool {
			return s.Name == p.Name &&
				s.Version == got.Version()
		}); i < 0 {
			t.Errorf("nobody was asked about %s %s", p.Name, got.Version())
		}
	}
	again, err := c.PutAll(t.Context(), []Pair{pairs[0], second,
		{"new.example", keysource.PEM{Chain: append([]byte("\n"), pairs[0].Chain...), Key: pairs[0].Key}}})
	check(t, err)
	for i, o := range again {
		if !o.Same || o.Err != nil {
			t.Errorf("again, %d: %+v", i, o)
		}
	}
	if calls != 1 {
		t.Error("somebody was asked about what does not change")
	}
}

func TestPutAllIsRefusedAsAWhole(t *testing.T) {
	refused := errors.New("the log is full")
	s := memory.New()
	c := New(Config{Store: store.OneByOne(s), BeforeAll: func(context.Context, []Stored) error { return refused }})
	chain, key := testca.New(t).Issue(t, "a.example")
	pair := Pair{"a.example", keysource.PEM{Chain: chain, Key: key}}
	if _, err := c.PutAll(t.Context(), []Pair{pair}); !errors.Is(err, refused) {
		t.Errorf("%v", err)
	}
	if _, err := c.Certificate(t.Context(), "a.example"); !errors.Is(err, keysource.ErrNotExist) {
		t.Errorf("it was stored nevertheless: %v", err)
	}
}

func TestPutAllTellsWhatItDoesNotKnow(t *testing.T) {
	c, s, ca := setUp(t)
	chain, key := ca.Issue(t, "a.example")
	down := errors.New("store is down")
	s.get = []error{down}
	out, err := c.PutAll(t.Context(), []Pair{{"a.example", keysource.PEM{Chain: chain, Key: key}}})
	if check(t, err); !errors.Is(out[0].Err, down) {
		t.Errorf("read: %+v", out)
	}
	s.swap = []error{down}
	out, err = c.PutAll(t.Context(), []Pair{{"a.example", keysource.PEM{Chain: chain, Key: key}}})
	if check(t, err); !errors.Is(out[0].Err, down) || !strings.Contains(out[0].Err.Error(), "put it again") {
		t.Errorf("write: %+v", out)
	}
}

func TestIllsNameWhatTheLatestLookShowed(t *testing.T) {
	c, s, ca := setUp(t)
	put(t, c, ca, "good.example")
	plant(t, s, "cert/broken.example", []byte{format})
	if ills := c.BadEntries(); len(ills) != 0 {
		t.Errorf("nobody has looked yet: %v", ills)
	}
	for _, n := range []keysource.Name{"good.example", "broken.example", "none.example"} {
		_, _ = c.Certificate(t.Context(), n)
	}
	if ills := c.BadEntries(); len(ills) != 1 || ills[0].Name != "broken.example" ||
		!strings.Contains(ills[0].Problem, "cannot be decoded") {
		t.Errorf("%v", ills)
	}
	put(t, c, ca, "broken.example")
	if ills := c.BadEntries(); len(ills) != 0 {
		t.Errorf("it was put again: %v", ills)
	}
	plant(t, s, "cert/broken.example", []byte("{"))
	for _, err := range c.List(t.Context(), "", "") {
		check(t, err)
	}
	if ills := c.BadEntries(); len(ills) != 1 {
		t.Errorf("a list has met it: %v", ills)
	}
	check(t, c.Remove(t.Context(), "broken.example"))
	if ills := c.BadEntries(); len(ills) != 0 {
		t.Errorf("it was removed: %v", ills)
	}
	for i := range 2 * maxProblems {
		n := keysource.Name(fmt.Sprintf("h%d.example", i))
		plant(t, s, key(n), []byte("{"))
		_, _ = c.Certificate(t.Context(), n)
	}
	if n := len(c.BadEntries()); n != maxProblems {
		t.Errorf("%d are remembered", n)
	}
}

// A record that somebody changed is replaced by putting the certificate again, alone or with
// others.
func TestARecordThatDoesNotOpenIsReplaced(t *testing.T) {
	inner := memory.New()
	c := New(Config{Store: guard.Sealed(inner, flip{})})
	ca := testca.New(t)
	for what, again := range map[string]func(n keysource.Name, chain, key []byte) error{
		"put": func(n keysource.Name, chain, key []byte) error {
			_, err := c.Put(t.Context(), n, keysource.PEM{Chain: chain, Key: key})
			return err
		},
		"all": func(n keysource.Name, chain, key []byte) error {
			out, err := c.PutAll(t.Context(), []Pair{{n, keysource.PEM{Chain: chain, Key: key}}})
			return errors.Join(err, out[0].Err)
		},
		"rm": func(n keysource.Name, _, _ []byte) error { return c.Remove(t.Context(), n) },
	} {
		n := keysource.Name(what + ".example")
		chain, k := ca.Issue(t, string(n))
		put(t, c, ca, n)
		plant(t, inner, key(n), []byte("?"))
		if _, err := c.Certificate(t.Context(), n); !errors.Is(err, store.ErrSealed) ||
			errors.Is(err, keysource.ErrNotExist) {
			t.Errorf("%s: %v", what, err)
		}
		if ills := c.BadEntries(); len(ills) != 1 || ills[0].Name != n {
			t.Errorf("%s: %v", what, ills)
		}
		check(t, again(n, chain, k))
		if _, err := c.Certificate(t.Context(), n); errors.Is(err, store.ErrSealed) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// flip seals by a first byte.
type flip struct{}

func (flip) Seal(plain, _ []byte) ([]byte, error) { return append([]byte("!"), plain...), nil }
func (flip) Open(sealed, _ []byte) ([]byte, error) {
	if len(sealed) == 0 || sealed[0] != '!' {
		return nil, errors.New("not sealed")
	}
	return sealed[1:], nil
}
