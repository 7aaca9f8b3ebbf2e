package renewal

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
)

// Settle is how long a chain that became shorter is not believed, if it comes from files. Some
// programs write the leaf first, and the rest of the chain some seconds later.
const Settle = 10 * time.Second

// Verdict is what becomes of a renewal.
type Verdict struct {
	// Keep says why the renewal cannot serve, while the one before can: that one stays. It is empty
	// if the renewal is to be served.
	Keep string
	// Until is when the renewal is to be judged again. It is zero unless Keep says something.
	Until time.Time
	// Early reports that the renewal is not valid yet, and is at Until.
	Early bool
	// Shorter reports that the renewal is to be served, and that its chain became shorter.
	Shorter bool
	// Warnings say what looks worse.
	Warnings []string
}

// Judge compares next with was, which is served. Both have passed [keysource.ParseCertificate]. It
// says nothing of two that are the same.
func Judge(was, next keysource.Certificate, now time.Time) Verdict {
	if was.PEM.Equal(next.PEM) {
		return Verdict{}
	}
	old, ok := read(was)
	made, parsed := read(next)
	if !ok || !parsed {
		return Verdict{Warnings: First(next)} // it cannot happen: both were parsed before
	}
	from, until := old.validity()
	if good := !now.Before(from) && !now.After(until); good {
		if at, _ := made.validity(); now.Before(at) {
			return Verdict{Early: true, Until: at, Keep: fmt.Sprintf("it is not valid before %s, and the one that is "+
				"served is valid", stamp(at))}
		}
		if lost := made.lostIssuer(old); lost != nil {
			return Verdict{Until: until.Add(time.Second), Keep: fmt.Sprintf("its chain is the leaf alone, without the "+
				"intermediate %.100q that the one which is served was sent with: most clients would refuse it; put "+
				"the whole chain (fullchain.pem)", lost.Subject)}
		}
	}
	v := Verdict{Shorter: len(made.above) < len(old.above)}
	for _, worse := range []func(old, made facts) string{
		shorter, fewerNames, otherKey, otherAuthority, endsSooner,
	} {
		if why := worse(old, made); why != "" {
			v.Warnings = append(v.Warnings, why)
		}
	}
	for _, why := range First(next) {
		if alone(made) != why || !v.Shorter {
			v.Warnings = append(v.Warnings, why)
		}
	}
	return v
}

// First says what looks wrong with a certificate that replaces none.
func First(c keysource.Certificate) (out []string) {
	f, ok := read(c)
	if !ok {
		return nil
	}
	for _, wrong := range []func(facts) string{alone, usage} {
		if why := wrong(f); why != "" {
			out = append(out, why)
		}
	}
	return out
}

// shorter names the intermediates that are missing. What leads to another CA is not missing.
func shorter(old, made facts) string {
	if len(made.above) >= len(old.above) {
		return ""
	}
	var lacks []string
	for _, ca := range old.above {
		if !made.has(ca.RawSubject) {
			lacks = append(lacks, fmt.Sprintf("%.100q", ca.Subject.String()))
		}
	}
	return fmt.Sprintf("its chain became shorter: it has %d intermediates, before %d, and lacks %s; that is right "+
		"only if all clients have %.100q themselves", len(made.above), len(old.above), keysource.FirstFew(lacks),
		made.root())
}

func fewerNames(old, made facts) string {
	var lacks []string
	for _, name := range old.names() {
		if !made.serves(name) {
			lacks = append(lacks, name)
		}
	}
	if len(lacks) == 0 {
		return ""
	}
	return "it is not for " + keysource.FirstFew(lacks) + ", as the one before was: clients refuse it there"
}

func otherKey(old, made facts) string {
	was, is := old.key(), made.key()
	switch {
	case was.kind != is.kind:
		return fmt.Sprintf("its key is %s, before %s: clients that take only the other kind cannot connect", is, was)
	case is.bits < was.bits:
		return fmt.Sprintf("its key is weaker: %s, before %s", is, was)
	}
	return ""
}

// Beside returns those of the warnings that hold for the first one of two certificates of a host.
// That it was RSA before is not among them: the second one is.
func Beside(warnings []string) []string {
	return slices.DeleteFunc(slices.Clone(warnings), func(w string) bool {
		return strings.HasPrefix(w, "its key is ECDSA on ") && strings.Contains(w, ", before RSA of ")
	})
}

func otherAuthority(old, made facts) string {
	was, is := old.root(), made.root()
	switch {
	case made.has(old.rawRoot()), old.has(made.rawRoot()): // a cross-certificate came or went
		return ""
	case was != is:
		return fmt.Sprintf("its CA is %.100q, before %.100q: clients must know that one", is, was)
	}
	if a, b := old.rootKey(), made.rootKey(); len(a) > 0 && len(b) > 0 && !slices.Equal(a, b) {
		return fmt.Sprintf("its CA has the name of the one before, %.100q, and another key: clients must know "+
			"that one", is)
	}
	return ""
}

func endsSooner(old, made facts) string {
	_, was := old.validity()
	if _, is := made.validity(); is.Before(was) {
		return fmt.Sprintf("it ends at %s, before the one that it replaces (%s): it may be an older one", stamp(is),
			stamp(was))
	}
	return ""
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
