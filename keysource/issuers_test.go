package keysource_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/keysource/internal/testca"
)

// What is remembered of an issuer changes nothing: each chain is judged as it is the first time.
func TestAChainWhoseIssuersWereMetBeforeIsCheckedAsMuch(t *testing.T) {
	ca := testca.New(t)
	inter, other := ca.Intermediate(t), ca.Intermediate(t)
	leaf, key := inter.Issue(t, "shop.example")
	behind := join(inter.PEM, ca.PEM)
	first, err := keysource.ParseCertificate(keysource.PEM{Chain: join(leaf, behind), Key: key}, now)
	check(t, err)
	again, err := keysource.ParseCertificate(keysource.PEM{Chain: join(leaf, behind), Key: key}, now)
	check(t, err)
	if first.Version() != again.Version() || !bytes.Equal(first.Chain, again.Chain) || first.Issuer != again.Issuer {
		t.Errorf("%+v, then %+v", first, again)
	}
	next, nextKey := inter.Issue(t, "next.example")
	got, err := keysource.ParseCertificate(keysource.PEM{Chain: join(next, behind), Key: nextKey}, now)
	if check(t, err); !bytes.Equal(got.Chain, join(next, behind)) || got.Names[0] != "next.example" {
		t.Errorf("another leaf of the issuer: %s for %v", got.Chain, got.Names)
	}
	foreign, foreignKey := other.Issue(t, "shop.example")
	cut := leaf[:len(leaf)/2]
	for what, c := range map[string]struct {
		chain, key []byte
		now        time.Time
		words      string
	}{
		"a leaf of another issuer": {join(foreign, behind), foreignKey, now, "not signed by the next"},
		"another key":              {join(leaf, behind), nextKey, now, "does not belong"},
		"a key of the issuer":      {join(inter.PEM, ca.PEM), key, now, "does not belong"},
		"a leaf cut short":         {join(cut, []byte("\n"), behind), key, now, "broken or cut short"},
		"expired since":            {join(leaf, behind), key, testca.NotAfter.Add(time.Second), "expired"},
		"a broken block first": {join([]byte("-----BEGIN CERTIFICATE-----\n?\n"), leaf, behind), key, now,
			"broken or cut short"},
	} {
		for range 2 {
			if _, err := keysource.ParseCertificate(keysource.PEM{Chain: c.chain, Key: c.key}, c.now); !errors.Is(err,
				keysource.ErrBadCertificate) || !strings.Contains(err.Error(), c.words) {
				t.Errorf("%s: %v, want %q", what, err, c.words)
			}
		}
	}
}
