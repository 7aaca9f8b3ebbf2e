package admin

import (
	"fmt"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/internal/expiry"
)

// The ends of lockstepd's own certificates are listed however far they are, the next one first.
func TestTheEndsOfTheOwnCertificatesAreAlwaysListed(t *testing.T) {
	now := time.Now()
	year := expiry.Span{NotBefore: now, NotAfter: now.Add(365 * 24 * time.Hour)}
	old := expiry.Span{NotBefore: now.Add(-48 * time.Hour), NotAfter: now.Add(-time.Hour)}
	a := &admin{cfg: Config{Own: func() []expiry.Certificate {
		return []expiry.Certificate{
			{Name: "CN=ca", Verifies: true, Span: year},
			{Name: "127.0.0.1", Span: old},
		}
	}}}
	got := ""
	for _, e := range a.own(now) {
		got += fmt.Sprintln(e.Name, e.Source, e.State)
	}
	if want := "127.0.0.1 own expired\nCN=ca client_ca good\n"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if none := (&admin{}).own(now); none == nil || len(none) > 0 {
		t.Errorf("with plaintext: %v", none)
	}
}
