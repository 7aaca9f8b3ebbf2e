package keysource_test

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/keysource/internal/testca"
)

// signed is a certificate with these names of an issuer of that name.
func signed(t *testing.T, issuer, common string, serial int64, names ...string) []byte {
	t.Helper()
	key := testca.Key(t)
	leaf := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: common},
		NotAfter: time.Now().Add(time.Hour)}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			leaf.IPAddresses = append(leaf.IPAddresses, ip)
		} else {
			leaf.DNSNames = append(leaf.DNSNames, n)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, &x509.Certificate{Subject: pkix.Name{CommonName: issuer}},
		key.Public(), key)
	check(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func TestResumptionContextIsOfNamesIssuerAndServerName(t *testing.T) {
	base, err := keysource.ResumptionContext(signed(t, "R1", "", 1, "a.example", "b.example", "192.0.2.1"),
		"a.example")
	check(t, err)
	for name, c := range map[string]struct {
		chain  []byte
		server keysource.Name
		want   string // of what is said; empty: the same context
	}{
		"renewed": {signed(t, "R1", "", 2, "a.example", "b.example", "192.0.2.1"), "a.example", ""},
		"another issuer": {signed(t, "R2", "", 2, "a.example", "b.example", "192.0.2.1"), "a.example",
			"another issuer (CN=R2, before CN=R1)"},
		"a name more": {signed(t, "R1", "", 2, "a.example", "b.example", "c.example", "192.0.2.1"), "a.example",
			"other names"},
		"an address less": {signed(t, "R1", "", 2, "a.example", "b.example"), "a.example", "other names"},
		"another order": {signed(t, "R1", "", 2, "b.example", "a.example", "192.0.2.1"), "a.example",
			"another order"},
		"with common name": {signed(t, "R1", "a.example", 2, "a.example", "b.example", "192.0.2.1"), "a.example",
			"common name"},
		"for another chain": {signed(t, "R1", "", 2, "a.example", "b.example", "192.0.2.1"), "b.example", "-"},
	} {
		next, err := keysource.ResumptionContext(c.chain, c.server)
		check(t, err)
		if (next.Fingerprint == base.Fingerprint) != (c.want == "") {
			t.Errorf("%s: fingerprint %s, before %s", name, next.Fingerprint, base.Fingerprint)
		}
		if said := strings.Join(base.Changes(next), "; "); c.want != "-" && (said == "") != (c.want == "") ||
			c.want != "-" && !strings.Contains(said, c.want) {
			t.Errorf("%s: said %q, want %q", name, said, c.want)
		}
	}
	if _, err := keysource.ResumptionContext([]byte("x"), "a.example"); !errors.Is(err, keysource.ErrBadCertificate) {
		t.Errorf("%v", err)
	}
}
