package expiring_test

import (
	"crypto/x509"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/expiring"
	"github.com/lockstep-tls/lockstep/identity/identitytest"
	"github.com/lockstep-tls/lockstep/internal/testkit"
	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/keysource/catalog"
	"github.com/lockstep-tls/lockstep/store"
	"github.com/lockstep-tls/lockstep/store/memory"
)

// TestAStoredCertificateIsExpiredOrBrokenAndNotBoth: one that was read after its end is counted
// with those that have expired, and one whose record is damaged with the broken ones.
func TestAStoredCertificateIsExpiredOrBrokenAndNotBoth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := identitytest.NewAuthority(t, "")
		raw := memory.New()
		c := catalog.New(catalog.Config{Store: store.OneByOne(raw)})
		for _, name := range []keysource.Name{"late.example", "torn.example"} {
			cert, key := ca.SignUntil(&x509.Certificate{DNSNames: []string{string(name)}}, time.Now().Add(time.Hour))
			_, err := c.Put(t.Context(), name,
				keysource.PEM{Chain: identitytest.PEM(cert), Key: identitytest.KeyPEM(t, key)})
			testkit.Check(t, err)
		}
		_, rev, err := raw.Get(t.Context(), "cert/torn.example")
		testkit.Check(t, err)
		_, err = raw.Swap(t.Context(), "cert/torn.example", rev, []byte("torn"))
		testkit.Check(t, err)
		time.Sleep(2 * time.Hour)
		for _, name := range []keysource.Name{"late.example", "torn.example"} {
			_, _ = c.Certificate(t.Context(), name) // it is noted
		}
		if got := expiring.Broken(nil, c); strings.Join(got, " ") != "torn.example" {
			t.Errorf("broken are %q", got)
		}
	})
}

func TestAFewNamesStandForMany(t *testing.T) {
	for want, names := range map[string]string{"a": "a", "a, b, c": "a b c", "a, b, c and 2 more": "a b c d e"} {
		if got := expiring.Named(strings.Fields(names)); got != want {
			t.Errorf("%q: %q", names, got)
		}
	}
}
