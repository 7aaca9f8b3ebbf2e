package expiry

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"time"
)

// Certificate is one whose end somebody should know.
type Certificate struct {
	What string // What says in words whose it is.
	File string // File is where it comes from.
	Name string // Name is its subject, or who it proves to be.
	// Verifies reports that it proves nothing itself: the certificates of others are checked by it.
	Verifies bool
	Span
}

// Parse returns the certificates of a PEM file, 20 at most. It leaves out blocks that cannot be
// read.
func Parse(text []byte) (all []*x509.Certificate) {
	const most = 20
	for block, rest := pem.Decode(text); block != nil && len(all) < most; block, rest = pem.Decode(rest) {
		if c, err := x509.ParseCertificate(block.Bytes); err == nil && block.Type == "CERTIFICATE" {
			all = append(all, c)
		}
	}
	return all
}

// SpanOf returns when c is valid.
func SpanOf(c *x509.Certificate) Span { return Span{c.NotBefore, c.NotAfter} }

// Watch writes to log what list returns, and again each time that a state changes or another
// certificate takes the place of one. It looks at once, and then every so often, until ctx ends.
func Watch(ctx context.Context, list func() []Certificate, every time.Duration, log *slog.Logger) {
	type key struct{ what, name string }
	type seen struct {
		state State
		until time.Time
	}
	var before map[key]seen
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		now, is := time.Now(), map[key]seen{}
		for _, c := range list() {
			s := seen{c.State(Proof, now), c.NotAfter}
			k := key{c.What, c.Name}
			if is[k] = s; before[k] == s {
				continue
			}
			tell := log.Info
			switch s.state {
			case Near, Last:
				tell = log.Warn
			case Expired:
				tell = log.Error
			}
			tell(c.What+" "+c.Words(now), "state", s.state.String(), "name", c.Name, "file", c.File,
				"not_after", c.NotAfter)
		}
		before = is
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
