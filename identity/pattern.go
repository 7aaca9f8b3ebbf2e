package identity

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// pattern is an identity as a rule names it: a name, or one with a star in it, which stands for any
// characters, slashes and dots and none at all included. It matches names of its own kind only:
// "*.example" is no SPIFFE ID that happens to end so.
type pattern struct {
	kind       kind
	star       bool
	head, tail string // around the star; without one, head is all
}

type kind uint8

const (
	anyKind kind = iota // "*" alone: everybody, those included of whom nothing is known
	spiffeKind
	unixKind
	dnsKind
)

const spiffeScheme, unixScheme = "spiffe://", "unix:"

const (
	unixUID  = unixScheme + "uid="
	unmapped = unixScheme + "unmapped"
	// also the number that Linux gives, unless it was told another, for every user that a user
	// namespace does not know
	nobody = 65534
)

func kindOf(name string) kind {
	switch {
	case strings.HasPrefix(name, spiffeScheme):
		return spiffeKind
	case strings.HasPrefix(name, unixScheme):
		return unixKind
	}
	return dnsKind
}

func parsePattern(s string) (pattern, error) {
	if s == "*" {
		return pattern{}, nil
	}
	p := pattern{kind: kindOf(s)}
	if p.kind == dnsKind {
		s = strings.ToLower(s)
	}
	p.head, p.tail, p.star = strings.Cut(s, "*")
	switch {
	case s == "":
		return p, errors.New("it is empty; \"*\" is everybody")
	case strings.Contains(p.tail, "*"):
		return p, fmt.Errorf("%q has more than one star", s)
	case p.kind == spiffeKind:
		return p, p.checkSPIFFE(s)
	case p.kind == unixKind:
		if !p.isUser() {
			return p, fmt.Errorf("%q is not of the form unix:uid=1000", s)
		}
		if !p.star && s == fmt.Sprint(unixUID, nobody) {
			return p, fmt.Errorf("%q is not one user: the kernel gives that number for every user "+
				"whom it cannot name here (those of other user namespaces), "+
				"and such a peer is %s: run the node as a user of its own", s, unmapped)
		}
	case !isDNS(s):
		return p, fmt.Errorf("%q is neither a SPIFFE ID (spiffe://…), nor a DNS name, nor unix:uid=…, "+
			"each with at most one star", s)
	}
	return p, nil
}

// isUser reports whether a pattern of a user matches some user: what is written of the number has
// digits alone. A number without a star is one that a user can have.
func (p pattern) isUser() bool {
	digits := func(s string) bool { return strings.Trim(s, "0123456789") == "" }
	number, of := strings.CutPrefix(p.head, unixUID)
	switch {
	case !p.star:
		_, err := strconv.ParseUint(number, 10, 32)
		return of && err == nil
	case of:
		return digits(number) && digits(p.tail)
	}
	return strings.HasPrefix(unixUID, p.head) && !strings.ContainsAny(p.tail, " \t\r\n")
}

// checkSPIFFE: the trust domain is spelt out, since "spiffe://fleet.example*" would let in
// fleet.example.attacker.
func (p pattern) checkSPIFFE(s string) error {
	if !p.star {
		if _, err := spiffeid.FromString(s); err != nil {
			return fmt.Errorf("%q is not a SPIFFE ID: %w", s, err)
		}
		return nil
	}
	domain, _, slash := strings.Cut(strings.TrimPrefix(p.head, spiffeScheme), "/")
	if !slash {
		return fmt.Errorf("%q has a star in its trust domain: spell it out, as in spiffe://fleet.example/*", s)
	}
	if _, err := spiffeid.TrustDomainFromString(domain); err != nil {
		return fmt.Errorf("%q: trust domain: %w", s, err)
	}
	if strings.ContainsAny(s, " \t\r\n") {
		return fmt.Errorf("%q has a space", s)
	}
	return nil
}

func (p pattern) matches(name string) bool {
	switch {
	case p.kind == anyKind:
		return true
	case p.kind != kindOf(name):
		return false
	case !p.star:
		return name == p.head
	}
	return len(name) >= len(p.head)+len(p.tail) && strings.HasPrefix(name, p.head) && strings.HasSuffix(name, p.tail)
}
