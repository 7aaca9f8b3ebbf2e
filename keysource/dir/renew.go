package dir

import (
	"crypto/x509"
	"fmt"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/keysource/renewal"
)

// judge judges what the files of n hold against was, which is served. Was is nil if nothing is in
// memory. Then it goes by what is remembered. It returns what is to be warned of.
func (d *Dir) judge(n keysource.Name, was *keysource.Certificate, c keysource.Certificate, now time.Time,
) ([]string, renewal.Verdict) {
	switch {
	case was == nil:
		v := d.last(n).After(c, now)
		return v.Warnings, v
	case was.Equal(c.PEM):
		return was.Warnings, renewal.Verdict{}
	}
	v := renewal.Judge(*was, c, now)
	if was.Kind() == x509.RSA && c.Kind() == x509.ECDSA && d.hasSecond(n) {
		v.Warnings = renewal.First(c) // the RSA certificate stands beside it now
	}
	return v.Warnings, v
}

// hasSecond reports whether the host n has files of a second certificate.
func (d *Dir) hasSecond(n keysource.Name) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return !n.IsSecond() && d.hosts[n.Second()] != nil
}

// kept says why what stands in a folder is not served.
func kept(folder string, v renewal.Verdict) error {
	next := ""
	if v.Early {
		next = ": it is served from then on"
	}
	return fmt.Errorf("%s: %w: %s%s", folder, keysource.ErrBadCertificate, v.Keep, next)
}

// settles reports whether a chain that became shorter is not believed yet. The caller holds mu.
func (d *Dir) settles(h *host, shorter bool, now time.Time) bool {
	if !shorter {
		h.shorterSince = time.Time{}
		return false
	}
	if h.shorterSince.IsZero() {
		h.shorterSince = now
		d.log.Info("the chain of a certificate became shorter; the rest of it is waited for", "name", h.name, "for",
			renewal.Settle)
	}
	if now.Sub(h.shorterSince) >= renewal.Settle {
		h.shorterSince = time.Time{}
		return false
	}
	d.lookAt(h.shorterSince.Add(renewal.Settle))
	return true
}

// settling says that the rest of a shorter chain is waited for. The caller holds mu.
func (h *host) settling() string {
	if h.shorterSince.IsZero() {
		return ""
	}
	return fmt.Sprintf("the files have another version with a shorter chain: it is served from %s on, unless more is "+
		"written", h.shorterSince.Add(renewal.Settle).UTC().Format(time.RFC3339))
}
