package probe

import (
	"crypto/tls"
	"errors"
	"strings"
	"testing"
)

func TestNoTicketCrosses(t *testing.T) {
	cert, pool := certify(t)
	strange, _ := certify(t)
	a, _ := serve(t, cert, 1, nil)
	same, _ := serve(t, cert, 1, nil)
	other, _ := serve(t, cert, 2, nil)
	foreign, _ := serve(t, strange, 2, nil)
	none, _ := serve(t, cert, 3, func(c *tls.Config) { c.SessionTicketsDisabled = true })
	for want, addrs := range map[string][]string{
		"":                       {a, other},
		"resumed at " + same:     {a, same},
		"resumed at " + a:        {a, other, same},
		"gave no session ticket": {a, none},
		"unknown authority":      {a, foreign},
	} {
		m, err := Cross(t.Context(), Config{Addrs: addrs, SNI: host, RootCAs: pool})
		if err != nil || m.Sampled || len(m.Pairs) != 2*len(addrs)*len(addrs) {
			t.Fatalf("%d pairs, sampled %v, %v", len(m.Pairs), m.Sampled, err)
		}
		if why := strings.Join(m.Crossings(), "\n"); !strings.Contains(why, want) || want == "" && why != "" {
			t.Errorf("%q, want %q in it", why, want)
		}
	}
	for _, addrs := range [][]string{{a}, {a, other, a}} {
		if _, err := Cross(t.Context(), Config{Addrs: addrs, SNI: host}); !errors.Is(err, ErrBadConfig) {
			t.Errorf("%v: %v", addrs, err)
		}
	}
}

func TestWhatProvesNothing(t *testing.T) {
	const v = tls.VersionTLS13
	for want, pairs := range map[string][]Pair{
		"nothing was tried": nil,
		"did not resume at the same node": {
			{v, "a", "a", Full, 0, "", "k1", nil}, {v, "a", "b", Full, 0, "", "k1", nil},
		},
		"make tickets with the same key k1": {
			{v, "a", "a", Resumed, 0, "", "k1", nil}, {v, "a", "b", Full, 0, "", "k1", nil},
			{v, "b", "b", Resumed, 0, "", "k1", nil},
		},
		"connection refused": {{v, "a", "a", Failed, 0, "connection refused", "", nil}},
	} {
		if why := strings.Join(Matrix{Pairs: pairs}.Crossings(), "\n"); !strings.Contains(why, want) {
			t.Errorf("%q, want %q in it", why, want)
		}
	}
}
