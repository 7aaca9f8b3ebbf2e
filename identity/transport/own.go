package transport

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/spiffe/go-spiffe/v2/workloadapi"

	"github.com/lockstep-tls/lockstep/identity"
	"github.com/lockstep-tls/lockstep/internal/expiry"
)

// These are values of What in what [MTLS.Certificates] returns.
const (
	OwnCertificate = "lockstepd's own certificate"
	ClientCA       = "the CA of those who may connect"
)

// Certificates returns the own certificate, and the CAs of those who may connect. They are as they
// are now: files are read again, at most once a second. Without mTLS (nil) there are none.
func (m *MTLS) Certificates() []expiry.Certificate {
	if m == nil {
		return nil
	}
	return m.own()
}

// Watch logs when each of Certificates ends, and again when one is replaced or comes near its end.
// It looks every so often until ctx ends.
func (m *MTLS) Watch(ctx context.Context, every time.Duration, log *slog.Logger) {
	if m == nil {
		return
	}
	expiry.Watch(ctx, m.Certificates, every, log)
}

// These are wrapped by what [MTLS.Problems] returns.
var (
	ErrNearEnd = errors.New("is near its end")
	ErrExpired = errors.New("has expired")
)

// Problems says which of Certificates are near their end ([ErrNearEnd]), or have expired
// ([ErrExpired]). Each error has a method Where() string, which names the certificate.
func (m *MTLS) Problems(now time.Time) (out []error) {
	for _, c := range m.Certificates() {
		say := func(format string, words ...any) {
			out = append(out, ending{c.Name + " in " + c.File, fmt.Errorf(format, words...)})
		}
		switch state := c.State(expiry.Proof, now); {
		case state == expiry.Good:
		case state == expiry.Expired && c.What == OwnCertificate:
			say("lockstepd's own certificate (%s, %s) %w, "+
				"and no node that connects now believes it: it %s", c.Name, c.File, ErrExpired, c.Words(now))
		case state == expiry.Expired:
			say("a CA of those who may connect (%s, %s) %w, "+
				"and what it issued lets nobody in: it %s; put the new CA into the file", c.Name, c.File,
				ErrExpired, c.Words(now))
		case c.What == OwnCertificate:
			say("lockstepd's own certificate (%s, %s) %w: it %s",
				c.Name, c.File, ErrNearEnd, c.Words(now))
		default:
			say("a CA of those who may connect (%s, %s) %w: it %s; "+
				"put a new CA beside it into the file, and have every certificate issued anew",
				c.Name, c.File, ErrNearEnd, c.Words(now))
		}
	}
	return out
}

// ending is an error about one certificate.
type ending struct {
	where string
	error
}

// Where names the certificate and its file.
func (e ending) Where() string { return e.where }
func (e ending) Unwrap() error { return e.error }

func certificate(what, file string, c *x509.Certificate) expiry.Certificate {
	name := identity.FromCertificate(c)
	if name == "" && len(c.IPAddresses) > 0 {
		name = c.IPAddresses[0].String()
	}
	return expiry.Certificate{
		What: what, File: file, Name: cmp.Or(name, c.Subject.String(), "serial "+c.SerialNumber.Text(16)),
		Span: expiry.SpanOf(c),
	}
}

// fromAPI returns the SVID and, of the CAs of its trust domain, the one that ends last. A bundle
// holds earlier ones until they have expired, and nobody has to do anything about those.
func fromAPI(source *workloadapi.X509Source, socket string) (all []expiry.Certificate) {
	own, err := source.GetX509SVID()
	if err != nil {
		return nil
	}
	all = append(all, certificate(OwnCertificate, socket, own.Certificates[0]))
	bundle, err := source.GetX509BundleForTrustDomain(own.ID.TrustDomain())
	if err != nil {
		return all
	}
	var last *x509.Certificate
	for _, ca := range bundle.X509Authorities() {
		if last == nil || ca.NotAfter.After(last.NotAfter) {
			last = ca
		}
	}
	if last != nil {
		all = append(all, certificate(ClientCA, socket, last))
	}
	return all
}
