package dir

import (
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/keysource/layout"
	"github.com/lockstep-tls/lockstep/keysource/renewal"
)

// claim is a place that has a certificate of a name. Two places of one name may have its ECDSA and
// its RSA certificate.
type claim struct {
	place
	mark layout.Mark
}

// kindOf is of which kind the key of a file is, as it was when the file was read last.
type kindOf struct {
	file fileID
	kind x509.PublicKeyAlgorithm
}

// claimsOf returns the places of a folder: one, or two if it has marked files.
func (d *Dir) claimsOf(folder string) []claim {
	one := []claim{{place: place{folder: folder}}}
	fi, err := os.Stat(folder)
	if err != nil {
		return one
	}
	id := identify(fi)
	d.mu.Lock()
	most := 2*len(d.hosts) + 100
	if len(d.kinds) > most { // most of them have gone
		clear(d.kinds)
	}
	d.mu.Unlock()
	if len(d.twins) > most {
		clear(d.twins)
	}
	known, ok := d.twins[folder]
	if !ok || known.folder != id {
		known = twins{folder: id}
		entries, err := os.ReadDir(folder)
		if err != nil {
			return one
		}
		var names []string
		for _, e := range entries {
			names = append(names, e.Name())
		}
		if slices.ContainsFunc(names, layout.Marked) {
			known.both = layout.FindBoth(names)
		}
		if time.Since(fi.ModTime()).Abs() < racy {
			known.folder = fileID{} // it is looked at again
		}
		d.twins[folder] = known
	}
	if known.both == nil {
		return one
	}
	var out []claim
	for _, s := range known.both {
		out = append(out, claim{place{folder: folder, files: s.Files}, s.Mark})
	}
	return out
}

// twins are the two certificates of a folder. both is nil if it has one.
type twins struct {
	folder fileID // of the folder when it was looked at
	both   []layout.Second
}

// foundAll notes that n has its files at these places. Of two, one may be that of the second
// certificate. Every other one is a place too many.
func (d *Dir) foundAll(r *round, n keysource.Name, all []claim) {
	if len(all) == 2 && !n.IsSecond() {
		first, second, ok := d.pairOf(n, all[0], all[1])
		if ok {
			d.foundHost(r, n, first.place)
			d.foundHost(r, n.Second(), second.place)
			return
		}
		all = []claim{first, second}
	}
	for _, c := range all {
		d.foundHost(r, n, c.place)
	}
}

// pairOf returns the places of the first and of the second certificate of n. ok is false if it
// cannot be told which is which. What was told before of two good ones holds, so a renewal of one
// of them leaves the other alone.
//
// Where a host gets a second one, one of the two may not be whole yet. It must not take the place
// of the one that is.
func (d *Dir) pairOf(n keysource.Name, a, b claim) (first, second claim, ok bool) {
	d.mu.Lock()
	one, two := d.hosts[n], d.hosts[n.Second()]
	at := func(h *host, c claim) bool { return h != nil && h.folder == c.folder && h.files == c.files }
	ab, ba := at(one, a) && at(two, b), at(one, b) && at(two, a)
	good := one != nil && two != nil && one.version != "" && two.version != ""
	d.mu.Unlock()
	switch {
	case good && ab:
		return a, b, true
	case good && ba:
		return b, a, true
	}
	const none = x509.UnknownPublicKeyAlgorithm
	x, y := d.whole(n, a.place), d.whole(n, b.place)
	marks := a.mark != "" || b.mark != ""
	switch {
	case x == x509.ECDSA && y == x509.RSA:
		return a, b, true
	case x == x509.RSA && y == x509.ECDSA:
		return b, a, true
	case ab:
		return a, b, true
	case ba:
		return b, a, true
	case two != nil && (x == none && y == x509.RSA || x == x509.ECDSA && y == none):
		return a, b, true // there were two before a restart
	case two != nil && (y == none && x == x509.RSA || y == x509.ECDSA && x == none):
		return b, a, true
	case two == nil && marks && x != none && y == none:
		return a, b, true
	case two == nil && marks && y != none && x == none:
		return b, a, true
	case a.mark != layout.RSA && b.mark == layout.RSA, a.mark == layout.ECDSA && b.mark == "":
		return a, b, true // the names say which is which
	case a.mark == layout.RSA && b.mark != layout.RSA, a.mark == "" && b.mark == layout.ECDSA:
		return b, a, true
	case x == none && y != none:
		return b, a, false
	}
	return a, b, false
}

// whole returns of which kind the key of the certificate at p is, if n can be served with it.
func (d *Dir) whole(n keysource.Name, p place) x509.PublicKeyAlgorithm {
	c, _, err := p.read(n, time.Now())
	if err != nil {
		return x509.UnknownPublicKeyAlgorithm
	}
	return c.Kind()
}

// kind returns of which kind the key of the certificate at p is. If it cannot be read now, it is
// what it was when it could.
func (d *Dir) kind(p place) x509.PublicKeyAlgorithm {
	f, err := p.stat()
	if f.chain == "" {
		return x509.UnknownPublicKeyAlgorithm
	}
	d.mu.Lock()
	known := d.kinds[f.chain]
	d.mu.Unlock()
	if err != nil || known.file == f.sig.crt && known.file != (fileID{}) {
		return known.kind
	}
	text, err := readFile(f.chain)
	if err != nil {
		return known.kind
	}
	if kind := keysource.LeafKind(text); kind != x509.UnknownPublicKeyAlgorithm {
		known = kindOf{f.sig.crt, kind}
		if time.Since(time.Unix(0, f.sig.crt.mtime)).Abs() < racy {
			known.file = fileID{}
		}
		d.mu.Lock()
		d.kinds[f.chain] = known
		d.mu.Unlock()
	}
	return known.kind
}

// checkPair refuses a certificate that would make two of a kind of the two that a host has.
func (d *Dir) checkPair(h *host, c keysource.Certificate) error {
	d.mu.Lock()
	other := d.hosts[h.name.Host()]
	if !h.name.IsSecond() {
		other = d.hosts[h.name.Second()]
	}
	if other == nil {
		d.mu.Unlock()
		return nil
	}
	at, good, has, mine := other.place(), other.good, other.version != "", h.good != nil
	d.mu.Unlock()
	if !h.name.IsSecond() {
		if has && mine {
			return c.CheckFirst(h.name)
		}
		return nil
	}
	kind := d.kind(at)
	if good != nil {
		kind = good.Kind()
	}
	if kind == x509.ECDSA || kind == x509.UnknownPublicKeyAlgorithm {
		return nil
	}
	return fmt.Errorf("%w: the key of %s is %s, too: beside it there can be no second certificate",
		keysource.ErrBadCertificate, filepath.Base(at.folder), kind)
}

// beside returns those of the warnings about the certificate of n that hold. Beside an RSA
// certificate, one that is no longer RSA is right.
func (d *Dir) beside(n keysource.Name, warnings []string) []string {
	if n.IsSecond() || len(warnings) == 0 {
		return warnings
	}
	d.mu.Lock()
	two, at := d.hosts[n.Second()], place{}
	if two != nil {
		at = two.place()
	}
	d.mu.Unlock()
	if two == nil || d.kind(at) != x509.RSA {
		return warnings
	}
	return renewal.Beside(warnings)
}
