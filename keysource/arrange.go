package keysource

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"
)

// arrange returns certs as they are sent: the leaf first, each one signed by the next. It notes
// what it moved or left out. What is in order stays as it is. leaf is the index of the leaf.
//
// Clients take a chain in any order, and build their own path. Envoy, other nodes and the rules
// here look at neighbours. What may be one of several chains is refused.
func arrange(certs []*x509.Certificate, leaf int, now time.Time) ([]*x509.Certificate, []string, error) {
	broken := brokenLink(certs)
	if len(certs) > maxCerts && broken != nil {
		return nil, nil, broken.because("put it in order")
	}
	if leaf == 0 && broken == nil && (len(certs) > maxCerts || !twice(certs)) {
		return certs, nil, nil
	}
	a := arrangement{all: certs, used: make([]bool, len(certs)), now: now}
	a.leaveOutRepeated()
	why := a.follow(leaf)
	if why == "" {
		why = a.leaveOutIssuersOfLeftOut()
	}
	if why != "" {
		if broken == nil { // the leaf is not first
			return nil, nil, fmt.Errorf("%w: chain: %s", ErrBadCertificate, why)
		}
		return nil, nil, broken.because(why)
	}
	if !slices.IsSorted(a.path) {
		a.note("the chain is not in order: it is sent as certificates %s", numbers(a.path))
	}
	out := make([]*x509.Certificate, len(a.path))
	for i, at := range a.path {
		out[i] = certs[at]
	}
	return out, a.notes, nil
}

type arrangement struct {
	all   []*x509.Certificate
	used  []bool // used marks what stands in path or is left out.
	out   []int  // out holds what is left out and is no repetition.
	path  []int
	notes []string
	now   time.Time
}

func (a *arrangement) note(format string, args ...any) {
	a.notes = append(a.notes, fmt.Sprintf(format, args...))
}

// leaveOutRepeated leaves out what stands there before.
func (a *arrangement) leaveOutRepeated() {
	for i, c := range a.all {
		first := slices.IndexFunc(a.all, c.Equal)
		if first < i {
			a.used[i] = true
			a.note("certificate %d is certificate %d again: it is left out", i, first)
		}
	}
}

// follow follows the issuers from the certificate at on. It returns why it cannot.
func (a *arrangement) follow(at int) (why string) {
	for {
		a.path, a.used[at] = append(a.path, at), true
		above := a.issuers(at)
		if len(above) == 0 {
			return ""
		}
		next, why := a.choose(above)
		if why != "" {
			return why
		}
		at = next
	}
}

// issuers returns the certificates that signed the one at. A root ends the chain.
func (a *arrangement) issuers(at int) (above []int) {
	c := a.all[at]
	if selfIssued(c) && c.CheckSignatureFrom(c) == nil {
		return nil
	}
	for i, ca := range a.all {
		if !a.used[i] && issuedBy(c, ca) && c.CheckSignatureFrom(ca) == nil {
			above = append(above, i)
		}
	}
	return above
}

// choose chooses one of several certificates of one CA, and leaves out the others. A root is not
// needed beside a cross-certificate, since clients have it. Of several by the same issuer the one
// that ends last stays, and none that is not valid now. All others may be needed by some client.
func (a *arrangement) choose(above []int) (int, string) {
	if len(above) == 1 {
		return above[0], ""
	}
	valid := func(i int) bool {
		return a.now.IsZero() || !a.now.After(a.all[i].NotAfter) && !a.now.Add(clockSlack).Before(a.all[i].NotBefore)
	}
	keep := above
	for _, better := range []func(int) bool{valid, func(i int) bool { return !selfIssued(a.all[i]) }} {
		if some := filter(keep, better); len(some) > 0 {
			keep = some
		}
	}
	best := keep[0]
	for _, i := range keep[1:] {
		x, y := a.all[best], a.all[i]
		if !bytes.Equal(x.RawIssuer, y.RawIssuer) {
			return 0, fmt.Sprintf("certificates %d and %d are both of %.100q, one issued by %.100q and one by %.100q: "+
				"keep the one that your clients need", best, i, x.Subject, x.Issuer, y.Issuer)
		}
		if y.NotAfter.After(x.NotAfter) {
			best = i
		}
	}
	for _, i := range above {
		if i == best {
			continue
		}
		a.used[i], a.out = true, append(a.out, i)
		switch {
		case !valid(i):
			a.note("certificate %d (%.100q) is not valid now: it is left out, since certificate %d is of the same CA",
				i, a.all[i].Subject, best)
		case selfIssued(a.all[i]):
			a.note("certificate %d (%.100q) is a root, which clients have: it is left out beside its "+
				"cross-certificate, certificate %d", i, a.all[i].Subject, best)
		default:
			a.note("certificate %d (%.100q) is left out, since certificate %d by the same issuer is valid for longer",
				i, a.all[i].Subject, best)
		}
	}
	return best, ""
}

// leaveOutIssuersOfLeftOut leaves out what only leads from a certificate that is left out. It
// returns which certificate has no place.
func (a *arrangement) leaveOutIssuersOfLeftOut() (why string) {
	for k := 0; k < len(a.out); k++ {
		for _, i := range a.issuers(a.out[k]) {
			a.used[i], a.out = true, append(a.out, i)
			a.note("certificate %d (%.100q) is left out with certificate %d, which it issued", i, a.all[i].Subject,
				a.out[k])
		}
	}
	i := slices.Index(a.used, false)
	if i < 0 {
		return ""
	}
	return fmt.Sprintf("certificate %d (%.100q) has no part in the chain of the leaf: leave it out, or put the issuer "+
		"there that is missing before it", i, a.all[i].Subject)
}

// issuedBy reports whether the names of c and ca fit, as the rule issuer-name has it.
func issuedBy(c, ca *x509.Certificate) bool {
	return bytes.Equal(c.RawIssuer, ca.RawSubject) || strings.EqualFold(c.Issuer.String(), ca.Subject.String())
}

// link is a place where a certificate is not signed by the next.
type link struct {
	at    int
	named bool // named reports that the names fit.
	err   error
}

// brokenLink returns the first place where a certificate is not signed by the next, or nil.
func brokenLink(certs []*x509.Certificate) *link {
	for i, ca := range certs[1:] {
		if err := certs[i].CheckSignatureFrom(ca); err != nil {
			return &link{i, issuedBy(certs[i], ca), err}
		}
	}
	return nil
}

// because says what is wrong with the link. If the names fit, that is the signature.
func (l *link) because(why string) error {
	if l.named {
		why = l.err.Error()
	}
	return fmt.Errorf("%w: certificate %d of the chain is not signed by the next: %s", ErrBadCertificate, l.at, why)
}

// leafWithoutKey returns the index of the leaf where the private key is not at hand. That is the
// only one that is no CA, or else the first one.
func leafWithoutKey(certs []*x509.Certificate) int {
	leaf := -1
	for i, c := range certs {
		if c.IsCA || slices.ContainsFunc(certs[:i], c.Equal) {
			continue
		}
		if leaf >= 0 {
			return 0
		}
		leaf = i
	}
	return max(leaf, 0)
}

func twice(certs []*x509.Certificate) bool {
	for i, c := range certs {
		if slices.ContainsFunc(certs[:i], c.Equal) {
			return true
		}
	}
	return false
}

func filter(from []int, keep func(int) bool) (out []int) {
	for _, i := range from {
		if keep(i) {
			out = append(out, i)
		}
	}
	return out
}

func numbers(of []int) string {
	out := make([]string, len(of))
	for i, n := range of {
		out[i] = fmt.Sprint(n)
	}
	return strings.Join(out, ", ")
}
