package dir

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/keysource/layout"
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
	if len(d.twins) > 2*len(d.hosts)+100 { // most of them have gone
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
	if first, second, ok := d.pairOf(n, all); ok {
		d.foundHost(r, n, first.place)
		d.foundHost(r, n.Second(), second.place)
		return
	}
	for _, c := range all {
		d.foundHost(r, n, c.place)
	}
}

// pairOf returns the places of the first and of the second certificate of n. ok is false if it
// cannot be told which is which. What was told before holds, so a renewal of one of them leaves the
// other alone.
func (d *Dir) pairOf(n keysource.Name, all []claim) (first, second claim, ok bool) {
	if len(all) != 2 || n.IsSecond() {
		return first, second, false
	}
	a, b := all[0], all[1]
	d.mu.Lock()
	one, two := d.hosts[n], d.hosts[n.Second()]
	at := func(h *host, c claim) bool { return h != nil && h.folder == c.folder && h.files == c.files }
	ab, ba := at(one, a) && at(two, b), at(one, b) && at(two, a)
	d.mu.Unlock()
	x, y := d.kind(a.place), d.kind(b.place)
	switch {
	case ab:
		return a, b, true
	case ba:
		return b, a, true
	case x == x509.ECDSA && y == x509.RSA:
		return a, b, true
	case x == x509.RSA && y == x509.ECDSA:
		return b, a, true
	case a.mark != layout.RSA && b.mark == layout.RSA, a.mark == layout.ECDSA && b.mark == "":
		return a, b, true // the names say which is which
	case a.mark == layout.RSA && b.mark != layout.RSA, a.mark == "" && b.mark == layout.ECDSA:
		return b, a, true
	}
	return first, second, false
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
	if kind := leafKind(text); kind != x509.UnknownPublicKeyAlgorithm {
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

// leafKind returns the kind of the key of the first certificate in PEM. Not every form of PEM is
// read here, only the usual one.
func leafKind(text []byte) x509.PublicKeyAlgorithm {
	for b, rest := pem.Decode(bytes.TrimSpace(text)); b != nil; b, rest = pem.Decode(rest) {
		if b.Type != "CERTIFICATE" && b.Type != "X509 CERTIFICATE" && b.Type != "TRUSTED CERTIFICATE" {
			continue
		}
		if c, err := x509.ParseCertificate(b.Bytes); err == nil {
			return c.PublicKeyAlgorithm
		}
		return x509.UnknownPublicKeyAlgorithm
	}
	return x509.UnknownPublicKeyAlgorithm
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
