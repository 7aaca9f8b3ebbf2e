package admin

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/keysource/catalog"
)

// find returns the certificate that is served under exactly the name n.
func (a *admin) find(ctx context.Context, n keysource.Name) (keysource.Certificate, error) {
	for _, src := range a.sources() {
		if c, err := src.Certificate(ctx, n); err == nil || !errors.Is(err, keysource.ErrNotExist) {
			return c, err
		}
	}
	return keysource.Certificate{}, keysource.ErrNotExist
}

// isNew reports whether there is certainly no certificate of that name.
func (a *admin) isNew(ctx context.Context, n keysource.Name) bool {
	_, err := a.find(ctx, n)
	return errors.Is(err, keysource.ErrNotExist)
}

// mayStand refuses a certificate that would make two of a kind of the two that a host has, and a
// second one without a first. It passes over one that Put refuses.
func (a *admin) mayStand(ctx context.Context, n keysource.Name, p keysource.PEM) error {
	if !n.IsSecond() {
		if keysource.LeafKind(p.Chain) == x509.ECDSA || a.isNew(ctx, n.Second()) {
			return nil
		}
		c, err := keysource.ParseCertificate(p, time.Now())
		if err != nil || c.CheckFirst(n) == nil {
			return nil
		}
		return fmt.Errorf("%w: remove %s first (lockstep cert rm %[2]s), or put this one there", c.CheckFirst(n),
			n.Second())
	}
	first, err := a.find(ctx, n.Host())
	if errors.Is(err, keysource.ErrNotExist) {
		return &api.Error{Code: api.Refused, Message: fmt.Sprintf("%s is the RSA certificate beside the ECDSA one "+
			"of %s, which has none: put that one first, or put this one under %[2]s, where it is the only one",
			n, n.Host())}
	}
	if err != nil {
		return nil // it may be there, and then it is looked at again when it is served
	}
	return first.CheckFirst(n.Host())
}

// mayGo refuses to remove the first of two certificates.
func (a *admin) mayGo(ctx context.Context, n keysource.Name) error {
	if n.IsSecond() || a.isNew(ctx, n) || a.isNew(ctx, n.Second()) {
		return nil
	}
	return &api.Error{Code: api.Refused, Message: fmt.Sprintf("%s has a second certificate, which is served beside "+
		"this one only: remove that one first (lockstep cert rm %s)", n, n.Second())}
}

// explainSecond adds what the other one of the two certificates of a host is.
func (a *admin) explainSecond(ctx context.Context, n keysource.Name, out *api.Explanation) {
	if out.Found != "yes" {
		return
	}
	at := keysource.Name(out.Cert.Name) // n, or its wildcard
	if !n.IsSecond() {
		if out.Second = a.secondOf(ctx, at); out.Second != nil {
			out.Verdict += fmt.Sprintf("; nodes whose chains name both, and lockstep-edge, serve %s to clients that "+
				"cannot do ECDSA", at.Second())
		}
		return
	}
	no := func(format string, args ...any) {
		out.Found, out.Verdict = "no", fmt.Sprintf("%s is not served: %s", at, fmt.Sprintf(format, args...))
	}
	if n.Host() != at.Host() && !a.isNew(ctx, n.Host()) {
		no("%s has a certificate of its own, and the two of a host stand under one name", n.Host())
		return
	}
	switch first, err := a.find(ctx, at.Host()); {
	case errors.Is(err, keysource.ErrNotExist):
		no("there is no certificate of %s beside which it would stand (lockstep cert put)", at.Host())
	case err == nil && first.CheckFirst(at.Host()) != nil:
		no("%v", first.CheckFirst(at.Host()))
	default:
		out.Verdict += fmt.Sprintf(", for clients that cannot use the ECDSA certificate of %s, at nodes whose chains "+
			"name both and at lockstep-edge", at.Host())
	}
}

// endsBeside says that the tickets of the host of n end, and why. Of two certificates it says which
// one it is about.
func endsBeside(n keysource.Name, why string) string {
	which := ""
	if n.IsSecond() {
		which = fmt.Sprintf(" (%s)", n)
	}
	return fmt.Sprintf("the session tickets of %s%s end, clients make a full handshake next: %s", n.Host(), which, why)
}

// secondOf returns the RSA certificate that is served beside that of host, or nil.
func (a *admin) secondOf(ctx context.Context, host keysource.Name) *api.Cert {
	if host.IsSecond() {
		return nil
	}
	for _, src := range a.sources() {
		c, err := src.Certificate(ctx, host.Second())
		if errors.Is(err, keysource.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil
		}
		if first, err := a.find(ctx, host); err != nil || first.CheckFirst(host) != nil {
			return nil
		}
		out := certOf(host.Second(), src.name, c)
		out.Chain = ""
		return &out
	}
	return nil
}

// withFirsts leaves out the second certificates that stand beside no ECDSA one, neither of this
// import nor of before, and what would take the place of that one. fail is told of each.
func (a *admin) withFirsts(
	ctx context.Context, pairs []catalog.Pair, folders []string, fail func(string, error, keysource.Name),
) (kept []catalog.Pair, keptFolders []string) {
	for i, p := range pairs {
		err := a.besideFirst(ctx, pairs, p)
		if err != nil {
			fail(folders[i], err, p.Name)
			continue
		}
		kept, keptFolders = append(kept, p), append(keptFolders, folders[i])
	}
	return kept, keptFolders
}

// besideFirst does what mayStand does for a pair of an import. The first certificate of the host
// may come with it.
func (a *admin) besideFirst(ctx context.Context, pairs []catalog.Pair, p catalog.Pair) error {
	if !p.Name.IsSecond() {
		return a.mayStand(ctx, p.Name, p.PEM)
	}
	for _, o := range pairs {
		if o.Name != p.Name.Host() {
			continue
		}
		if first, err := keysource.ParseCertificate(o.PEM, time.Now()); err == nil {
			return first.CheckFirst(o.Name)
		}
		break // it is refused, and the one of before stays
	}
	return a.mayStand(ctx, p.Name, p.PEM)
}
