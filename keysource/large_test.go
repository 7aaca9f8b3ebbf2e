package keysource_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
)

// testdata/large-rsa.pem is a leaf with its key, and its CA with an RSA key of 8208 bits, which
// nobody has any more. Such a key takes minutes to make.
func TestAnIssuerWithALargeRSAKeyIsNoted(t *testing.T) {
	both, err := os.ReadFile("testdata/large-rsa.pem")
	check(t, err)
	c, err := keysource.ParseCertificate(keysource.PEM{Chain: both}, time.Time{})
	check(t, err)
	const want = "certificate 1 of the chain has an RSA key of 8208 bits: clients written in Go refuse more than 8192"
	for range 2 { // the second time its issuers are known
		if said := strings.Join(c.Notes, "; "); !strings.Contains(said, want) {
			t.Errorf("noted %q, want %q", said, want)
		}
		c, err = keysource.ParseCertificate(c.PEM, time.Time{})
		check(t, err)
	}
}
