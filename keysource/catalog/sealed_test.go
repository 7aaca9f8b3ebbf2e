package catalog

import (
	"errors"
	"strings"
	"testing"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/keysource/internal/testca"
	"github.com/lockstep-tls/lockstep/store"
	"github.com/lockstep-tls/lockstep/store/guard"
	"github.com/lockstep-tls/lockstep/store/memory"
)

// prefixSealer stands in for a seal: what does not begin with the record's key does not open.
type prefixSealer struct{}

func (prefixSealer) Seal(plain, ad []byte) ([]byte, error) {
	return append(ad[:len(ad):len(ad)], plain...), nil
}
func (prefixSealer) Open(sealed, ad []byte) ([]byte, error) {
	plain, ok := strings.CutPrefix(string(sealed), string(ad))
	if !ok {
		return nil, errors.New("bad seal")
	}
	return []byte(plain), nil
}

// A record that does not open is listed with its problem among the others, and can be put again or
// removed.
func TestARecordThatDoesNotOpen(t *testing.T) {
	inner, ca := memory.New(), testca.New(t)
	c := New(Config{Store: guard.Sealed(inner, prefixSealer{})})
	put(t, c, ca, "good.example")
	cert := put(t, c, ca, "bad.example")
	damage := func() {
		t.Helper()
		_, rev, err := inner.Get(t.Context(), "cert/bad.example")
		check(t, err)
		_, err = inner.Swap(t.Context(), "cert/bad.example", rev, []byte("flipped"))
		check(t, err)
	}
	damage()
	problems := map[keysource.Name]string{}
	for e, err := range c.List(t.Context(), "", "") {
		check(t, err)
		problems[e.Name] = e.Problem
	}
	if len(problems) != 2 || problems["good.example"] != "" ||
		!strings.Contains(problems["bad.example"], "does not open") {
		t.Errorf("the list: %q", problems)
	}
	if _, err := c.Certificate(t.Context(), "bad.example"); !errors.Is(err, store.ErrSealed) ||
		errors.Is(err, keysource.ErrNotExist) {
		t.Errorf("Certificate: %v, want ErrSealed", err)
	}
	again := put(t, c, ca, "bad.example")
	if have, err := c.Certificate(t.Context(), "bad.example"); err != nil || have.Version() != again.Version() ||
		have.Version() == cert.Version() {
		t.Errorf("after another Put: %v", err)
	}
	damage()
	check(t, c.Remove(t.Context(), "bad.example"))
	if _, err := c.Certificate(t.Context(), "bad.example"); !errors.Is(err, keysource.ErrNotExist) {
		t.Errorf("after Remove: %v", err)
	}
}
