package admin

import (
	"cmp"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/keysource/catalog"
)

// maxScan bounds the records of the store that one answer looks at, since a filter may leave most
// of them out.
const maxScan = 5 * api.MaxPage

// certs answers with one page of both sources, by name. The directory wins a clash, and the clash
// is shown. It costs as much as the records that it looks at, if the store can begin in the middle.
func (a *admin) certs(r *http.Request) (out api.Certs, err error) {
	p, err := pageOf(r)
	if err != nil {
		return out, err
	}
	names := map[string]bool{} // those of the directory
	dir, unserved := a.directory(names)
	defer func() { a.unservedOf(r.Context(), out.Certs, unserved) }()
	dir = slices.DeleteFunc(dir, func(c api.Cert) bool { return !p.wants(c) })
	p.out = []api.Cert{}
	scanned := 0
	for e, err := range a.cfg.Catalog.List(r.Context(), p.Prefix, p.After) {
		if err != nil {
			return out, err
		}
		c := certOfEntry(e)
		c.Shadowed = names[c.Name]
		if dir = p.take(dir, c.Name); p.full() || scanned == maxScan {
			return p.answer(true), nil
		}
		scanned++
		for len(dir) > 0 && dir[0].Name == c.Name { // both, or the next page would lack one
			p.out, dir = append(p.out, dir[0]), dir[1:]
		}
		if p.last = max(p.last, c.Name); p.wants(c) {
			p.out = append(p.out, c)
		}
	}
	dir = p.take(dir, "")
	return p.answer(len(dir) > 0), nil
}

// page is a page that is being made.
type page struct {
	api.CertsQuery
	before time.Time // before is zero if the end does not matter.
	out    []api.Cert
	last   string // last is the last name that was looked at.
}

func pageOf(r *http.Request) (p page, err error) {
	q := r.URL.Query()
	p.Prefix, p.After, p.Limit = q.Get("prefix"), q.Get("after"), api.MaxPage
	p.last = p.After
	if s := q.Get("limit"); s != "" {
		if p.Limit, err = strconv.Atoi(s); err != nil || p.Limit < 1 || p.Limit > api.MaxPage {
			return p, &api.Error{
				Message: "limit is a number of certificates, 1 to " + strconv.Itoa(api.MaxPage), Code: api.Usage,
			}
		}
	}
	if s := q.Get("expires_within"); s != "" {
		d, err := time.ParseDuration(s)
		if err != nil {
			return p, &api.Error{Message: "expires_within is a duration, such as 720h", Code: api.Usage}
		}
		p.before = time.Now().Add(d)
	}
	return p, nil
}

func (p *page) full() bool { return len(p.out) >= p.Limit }

// wants reports whether the name belongs to the list, behind the page before.
func (p *page) wants(c api.Cert) bool {
	return strings.HasPrefix(c.Name, p.Prefix) && (p.After == "" || c.Name > p.After) &&
		(p.before.IsZero() || !c.NotAfter.IsZero() && c.NotAfter.Before(p.before))
}

// take moves the entries of dir before the name until, or all if that is empty, to the page. It
// returns those that do not fit.
func (p *page) take(dir []api.Cert, until string) []api.Cert {
	for len(dir) > 0 && (until == "" || dir[0].Name < until) && (!p.full() || dir[0].Name == p.last) {
		p.last = dir[0].Name
		p.out, dir = append(p.out, dir[0]), dir[1:]
	}
	return dir
}

func (p *page) answer(more bool) api.Certs {
	out := api.Certs{Certs: p.out}
	if more {
		out.Next = p.last
	}
	return out
}

// directory lists the directory by name, and notes the names. unserved has, by name, the other
// names of its certificate that the directory does not have.
func (a *admin) directory(names map[string]bool) (out []api.Cert, unserved map[string][]keysource.Name) {
	if a.cfg.Dir == nil {
		return nil, nil
	}
	unserved = map[string][]keysource.Name{}
	for _, e := range a.cfg.Dir.List() {
		c := api.Cert{
			Name: string(e.Name), Source: directory, Held: e.Held, Version: e.Version, Fingerprint: e.Leaf,
			Issuer: e.Issuer, NotAfter: e.NotAfter, Problem: e.Problem, Notes: e.Notes,
			Warnings: e.Warnings,
		}
		if len(e.Unserved) > 0 {
			unserved[c.Name] = e.Unserved
		}
		if c.Name == "" {
			c.Name = e.Folder
		}
		names[c.Name] = true
		out = append(out, c)
	}
	slices.SortStableFunc(out, func(x, y api.Cert) int { return cmp.Compare(x.Name, y.Name) })
	return out, unserved
}

func certOfEntry(e catalog.Entry) api.Cert {
	return api.Cert{
		Name: string(e.Name), Source: inStore, Version: e.Version, Fingerprint: e.Leaf, Issuer: e.Issuer,
		NotAfter: e.NotAfter, Problem: e.Problem, Warnings: e.Warnings,
	}
}
