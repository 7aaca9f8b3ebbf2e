package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-tls/lockstep/audit"
	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/cmd/internal/expiring"
	"github.com/lockstep-tls/lockstep/events"
	"github.com/lockstep-tls/lockstep/internal/expiry"
	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/store"
)

const (
	directory = "directory"
	inStore   = "store"
)

// certSummary names what is wrong. It reads the directory's list in memory, and of the store only
// the names that clash with it. For all other names it goes by what the latest look at each showed.
// A name is looked at when a node asks.
func (a *admin) certSummary(r *http.Request, ends expiring.View) (s api.CertSummary) {
	s = api.CertSummary{
		Held: []string{}, Problems: []string{}, Warnings: []string{}, Clashes: []string{},
		Watched: a.cfg.Table.Watched(),
	}
	for _, w := range expiring.Worse(a.cfg.Dir, a.cfg.Catalog) {
		s.Warnings = append(s.Warnings, fmt.Sprintf("%s: %s", w.Name, strings.Join(w.Warnings, "; ")))
	}
	s.Nearest, s.KnownAt, s.Own = nearest(ends), ends.KnownAt, a.own(ends.Now)
	for _, bad := range a.cfg.Catalog.BadEntries() {
		s.Problems = append(s.Problems, fmt.Sprintf("%s in the store: %s", bad.Name, bad.Problem))
	}
	if a.cfg.Dir == nil {
		return s
	}
	var names []keysource.Name
	for _, e := range a.cfg.Dir.List() {
		if e.Name != "" {
			s.Directory++
			names = append(names, e.Name)
		}
		if e.Problem != "" {
			s.Problems = append(s.Problems, e.Problem)
		}
		if e.Held {
			s.Held = append(s.Held, string(e.Name))
		}
	}
	s.Clashes = clashes(r.Context(), names, a.cfg.Catalog)
	return s
}

// maxNearest is how many of the nearest ends a status lists.
const maxNearest = 10

func nearest(v expiring.View) []api.CertEnd {
	out := []api.CertEnd{}
	for _, c := range v.Soonest[:min(maxNearest, len(v.Soonest))] {
		out = append(out, api.CertEnd{
			Name: c.Name, Source: c.Source, NotAfter: c.NotAfter, State: c.State(expiry.Served, v.Now).String(),
		})
	}
	return out
}

// own returns the ends of lockstepd's own certificates, the next one first.
func (a *admin) own(now time.Time) []api.CertEnd {
	out := []api.CertEnd{}
	if a.cfg.Own == nil {
		return out
	}
	for _, c := range a.cfg.Own() {
		source := "own"
		if c.Verifies {
			source = "client_ca"
		}
		out = append(out, api.CertEnd{
			Name: c.Name, Source: source, NotAfter: c.NotAfter, State: c.State(expiry.Proof, now).String(),
		})
	}
	slices.SortStableFunc(out, func(a, b api.CertEnd) int { return a.NotAfter.Compare(b.NotAfter) })
	return out
}

// lookForClashes is how long a status waits for the store.
const lookForClashes = time.Second

// clashes returns the names that the other source has too. If that fails or takes too long, the
// rest is not asked for.
func clashes(ctx context.Context, names []keysource.Name, other keysource.Source) []string {
	ctx, cancel := context.WithTimeout(ctx, lookForClashes)
	defer cancel()
	out := []string{}
	for _, n := range names {
		switch _, err := other.Certificate(ctx, n); {
		case errors.Is(err, keysource.ErrNotExist):
		case err == nil, errors.Is(err, store.ErrSealed), errors.Is(err, keysource.ErrBadCertificate):
			out = append(out, string(n))
		default:
			return out
		}
	}
	return out
}

func (a *admin) cert(r *http.Request) (out api.Cert, err error) {
	n, err := keysource.CertName(r.PathValue("name"))
	if err != nil {
		return out, err
	}
	for _, src := range a.sources() {
		c, err := src.Certificate(r.Context(), n)
		if errors.Is(err, keysource.ErrNotExist) {
			continue
		}
		if err != nil {
			return out, err
		}
		out = certOf(n, src.name, c)
		out.Unserved = a.unserved(r.Context(), n, c)
		return out, nil
	}
	return out, fmt.Errorf("certificate %s %w: neither the directory nor the store has it", n, keysource.ErrNotExist)
}

type named struct {
	keysource.Source
	name string
}

func (a *admin) sources() (out []named) {
	if a.cfg.Dir != nil {
		out = append(out, named{a.cfg.Dir, directory})
	}
	return append(out, named{a.cfg.Catalog, inStore})
}

func certOf(n keysource.Name, source string, c keysource.Certificate) api.Cert {
	out := api.Cert{
		Name: string(n), Source: source, Version: c.Version(), Fingerprint: c.Fingerprint(), Issuer: c.Issuer,
		NotAfter: c.NotAfter, Chain: string(c.Chain), Notes: c.Notes,
		Warnings: c.WarningsAt(time.Now()),
	}
	if context, err := keysource.ResumptionContext(c.Chain, n); err == nil { // it was parsed before
		out.Context = context.Fingerprint
	}
	return out
}

func (a *admin) putCert(r *http.Request) (out api.Cert, err error) {
	n, err := keysource.CertName(r.PathValue("name"))
	if err != nil {
		return out, err
	}
	var req api.PutCert
	if err := body(r, &req); err != nil {
		return out, err
	}
	p := keysource.PEM{Chain: req.Chain, Key: req.Key}
	if req.Beside {
		if n, err = a.besideName(r.Context(), n, p); err != nil {
			return out, err
		}
	}
	if req.Now {
		if err := a.release(r.Context(), n, p); err != nil {
			return out, err
		}
	}
	before, notBefore := a.cfg.Catalog.Certificate(r.Context(), n)
	if err := a.mayStand(r.Context(), n, p); err != nil {
		return out, err
	}
	added, moved := n.IsSecond() && a.isNew(r.Context(), n), false
	var c keysource.Certificate
	if req.Beside {
		c, moved, err = a.putBeside(r.Context(), n, p, before)
	} else {
		c, err = a.cfg.Catalog.Put(r.Context(), n, p)
	}
	if err != nil {
		return out, err
	}
	out = certOf(n, inStore, c)
	switch {
	case moved:
		out.Warnings = append(slices.Clone(out.Warnings), fmt.Sprintf("the RSA certificate of before stands under %s "+
			"now, beside this one: if it is not renewed any more, remove it (lockstep cert rm %[1]s)", n.Second()),
			endsBeside(n, "a second certificate is added"))
	case notBefore == nil:
		out.Warnings = append(slices.Clone(out.Warnings), ends(n, before.Chain, c.Chain)...)
		out.Warnings = append(out.Warnings, otherKind(n, before, c)...)
	}
	if added {
		if req.Beside {
			out.Warnings = append(out.Warnings, fmt.Sprintf("it stands under %s, beside the ECDSA certificate of %s: "+
				"if that one is not renewed any more, remove this one and put it without --beside", n, n.Host()))
		}
		out.Warnings = append(out.Warnings, endsBeside(n, "a second certificate, RSA, is added"))
	}
	out.Shadowed, out.Unserved = a.inDirectory(r, n), a.unserved(r.Context(), n, c)
	if out.Same = notBefore == nil && before.Version() == out.Version; out.Same && !req.Now {
		return out, nil
	}
	a.cfg.Catalog.Wake()
	text := fmt.Sprintf("the certificate of %s was put into the store by %s: version %s",
		n, Actor(r.Context()), out.Version)
	if notBefore == nil && !moved {
		text += ", before " + before.Version()
	}
	text += fmt.Sprintf(", issued by %s, until %s", out.Issuer, out.NotAfter.UTC().Format(time.RFC3339))
	for _, w := range out.Warnings {
		text += "; " + w
	}
	a.cfg.Events.Publish(events.Event{
		Kind: events.Cert, Name: string(n), Version: out.Version, By: Actor(r.Context()), At: time.Now(), Text: text,
	})
	a.cfg.Log.Info("certificate stored", "name", n, "version", out.Version,
		"not_after", c.NotAfter.Format(time.RFC3339))
	return out, nil
}

// release notes that every node gets the certificate at once. It passes over one that Put refuses.
func (a *admin) release(ctx context.Context, n keysource.Name, p keysource.PEM) error {
	if a.cfg.Trials == nil {
		return nil
	}
	c, err := keysource.ParseCertificate(p, time.Now())
	if err != nil || !c.Covers(n) {
		return nil
	}
	if err := a.cfg.Trials.Release(ctx, n, c.Version()); err != nil {
		return fmt.Errorf("the certificate of %s was not stored: %w", n, err)
	}
	a.cfg.Trials.Wake()
	a.cfg.Log.Info("a certificate goes to every node at once", "name", n, "version", c.Version())
	return nil
}

// ends says why the tickets of n end when its certificate is replaced. It is empty if they do not.
func ends(n keysource.Name, before, after []byte) []string {
	was, err1 := keysource.ResumptionContext(before, n)
	is, err2 := keysource.ResumptionContext(after, n)
	if err1 != nil || err2 != nil {
		return nil
	}
	var out []string
	for _, why := range was.Changes(is) {
		out = append(out, endsBeside(n, why))
	}
	return out
}

func (a *admin) inDirectory(r *http.Request, n keysource.Name) bool {
	if a.cfg.Dir == nil {
		return false
	}
	_, err := a.cfg.Dir.Certificate(r.Context(), n)
	return !errors.Is(err, keysource.ErrNotExist)
}

func (a *admin) removeCert(r *http.Request) (out struct{}, err error) {
	n, err := keysource.CertName(r.PathValue("name"))
	if err != nil {
		return out, err
	}
	if err := a.mayGo(r.Context(), n); err != nil {
		return out, err
	}
	err = a.cfg.Catalog.Remove(r.Context(), n)
	if errors.Is(err, keysource.ErrNotExist) && a.inDirectory(r, n) {
		return out, fmt.Errorf("certificate %s %w in the store; it comes from the directory: remove its folder there",
			n, keysource.ErrNotExist)
	}
	if err == nil {
		a.cfg.Catalog.Wake()
		who := Actor(r.Context())
		a.cfg.Events.Publish(events.Event{
			Kind: events.Cert, Name: string(n), By: who, At: time.Now(),
			Text: fmt.Sprintf("the certificate of %s was removed from the store by %s", n, who),
		})
		a.cfg.Log.Info("certificate removed", "name", n)
	}
	return out, err
}

func (a *admin) confirmLoss(r *http.Request) (api.Losses, error) {
	out := api.Losses{Names: []string{}}
	lost, err := a.cfg.Lost(r.Context())
	if err != nil || !lost && (a.cfg.Dir == nil || !a.cfg.Dir.Loss()) {
		out.Nothing = err == nil
		return out, err
	}
	if err := a.writeDown(r.Context(),
		audit.Entry{What: "loss-confirmed", Why: "names that are gone are given up"}); err != nil {
		return out, err
	}
	if err := a.cfg.ForgetLoss(r.Context()); err != nil {
		return out, err
	}
	if a.cfg.Dir == nil {
		return out, nil
	}
	names, err := a.cfg.Dir.ConfirmLoss()
	for _, n := range names {
		out.Names = append(out.Names, string(n))
	}
	a.cfg.Log.Warn("a loss of certificates was confirmed", "names", len(names))
	return out, err
}
