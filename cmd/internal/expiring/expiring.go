// Package expiring says which certificates end first, of all that stand in the directory or in the
// store, and which cannot be used. No node has to ask for them.
package expiring

import (
	"fmt"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/cmd/internal/problems"
	"github.com/lockstep-tls/lockstep/internal/expiry"
	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/keysource/catalog"
	"github.com/lockstep-tls/lockstep/keysource/dir"
)

// Most is how many certificates are named at most.
const Most = 100

// These are values of Source in [Certificate].
const (
	Directory = "directory"
	Store     = "store"
)

// Certificate is one with its end.
type Certificate struct {
	Name   string
	Source string
	expiry.Span
}

// View is how the certificates stand at a moment.
type View struct {
	Soonest []Certificate // Soonest are the 100 that end first, in order.
	// Near, Last and Expired count those that are so by [expiry.Served], each in one of them. Of
	// the store at most 1000 are counted. The first one of each is named.
	Near, Last, Expired                int
	FirstNear, FirstLast, FirstExpired Certificate
	// KnownAt is when all stored certificates had been read. It is zero until they were read once.
	KnownAt time.Time
	Now     time.Time // Now is the moment.
}

// Look joins what the sources know. It reads nothing of the store. Files may be nil.
func Look(files *dir.Dir, stored *catalog.Catalog, now time.Time) View {
	v := View{Now: now}
	first := expiry.NewFirst(Most, expiry.ByEnd)
	if files != nil {
		for _, e := range files.List() {
			if e.NotAfter.IsZero() {
				continue
			}
			s := expiry.Span{NotBefore: e.NotAfter.Add(-e.Life), NotAfter: e.NotAfter}
			first.Put(string(e.Name), s)
			v.count(Certificate{string(e.Name), Directory, s})
		}
	}
	// ours: the directory wins
	ours := func(name string) bool { return files != nil && files.Has(keysource.Name(name)) }
	ends := stored.Ends()
	v.KnownAt = ends.KnownAt
	for _, n := range ends.Late {
		if !ours(n.Name) {
			v.count(Certificate{n.Name, Store, n.Span})
		}
	}
	for _, n := range ends.Soonest {
		if !ours(n.Name) {
			first.Put(n.Name, n.Span)
		}
	}
	for _, n := range first.All() {
		source := Store
		if ours(n.Name) {
			source = Directory
		}
		v.Soonest = append(v.Soonest, Certificate{n.Name, source, n.Span})
	}
	return v
}

func (v *View) count(c Certificate) {
	note := func(n *int, first *Certificate) {
		if *n++; *n == 1 || c.NotAfter.Before(first.NotAfter) {
			*first = c
		}
	}
	switch c.State(expiry.Served, v.Now) {
	case expiry.Near:
		note(&v.Near, &v.FirstNear)
	case expiry.Last:
		note(&v.Last, &v.FirstLast)
	case expiry.Expired:
		note(&v.Expired, &v.FirstExpired)
	}
}

// Problems says what somebody should do something about, the worst first.
func (v View) Problems() (out []api.Problem) {
	add := func(code, where string, severity api.Severity, n int, format string, c Certificate) {
		if n > 0 {
			p := problems.New(code, where, fmt.Sprintf(format, n, c.Name, c.Source, c.Words(v.Now)))
			p.Severity, p.Count = severity, n
			out = append(out, p)
		}
	}
	add(problems.CertificatesExpired, "", api.Critical, v.Expired, expiredWords, v.FirstExpired)
	add(problems.NotRenewed, "urgent", api.Critical, v.Last, urgentWords, v.FirstLast)
	add(problems.NotRenewed, "", api.Warning, v.Near, nearWords, v.FirstNear)
	return out
}

// These say how many there are, and the first of them.
const (
	expiredWords = "%d certificates have expired, and clients refuse their hosts; " +
		"the first of them is %s (%s), which %s"
	urgentWords = "%d certificates have three days or a tenth of their lifetime left, and were not renewed; " +
		"the first of them is %s (%s), which %s"
	nearWords = "%d certificates have 30 days or a quarter of their lifetime left, and were not renewed; " +
		"the first of them is %s (%s), which %s"
)
