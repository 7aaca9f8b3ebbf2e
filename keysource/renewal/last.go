package renewal

import (
	"fmt"
	"slices"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
)

// Last is what is remembered over a restart of the certificate that was served last.
type Last struct {
	Version  string
	Warnings []string
	// Intermediates are the names of those that were sent with the leaf.
	Intermediates []string
	NotAfter      time.Time
}

// Intermediates returns the names of those that are sent with a leaf.
func Intermediates(c keysource.Certificate) (names []string) {
	f, _ := read(c)
	for _, ca := range f.above {
		names = append(names, ca.Subject.String())
	}
	return names
}

// After judges a certificate after a restart: what was served is not in memory, nodes may have it
// still. The zero Last stands for none.
func (last Last) After(next keysource.Certificate, now time.Time) Verdict {
	if last.Version != "" && last.Version == next.Version() {
		return Verdict{Warnings: last.Warnings}
	}
	v := Verdict{Warnings: First(next)}
	f, ok := read(next)
	if !ok {
		return v
	}
	if at, _ := f.validity(); last.Version != "" && now.Before(at) && !now.After(last.NotAfter) {
		return Verdict{Early: true, Until: at, Keep: fmt.Sprintf("it is not valid before %s, and the one before is "+
			"valid", stamp(at))}
	}
	if len(f.above) >= len(last.Intermediates) {
		return v
	}
	issuer := f.chain[0].Issuer.String()
	if len(f.chain) == 1 && !now.After(last.NotAfter) && slices.Contains(last.Intermediates, issuer) {
		return Verdict{Until: last.NotAfter.Add(time.Second), Keep: fmt.Sprintf("its chain is the leaf alone, without "+
			"the intermediate %.100q that the one before was sent with: most clients would refuse it; put the whole "+
			"chain (fullchain.pem)", issuer)}
	}
	v.Warnings = append(v.Warnings, fmt.Sprintf("its chain became shorter: it has %d intermediates, before %d; that "+
		"is right only if all clients have %.100q themselves", len(f.above), len(last.Intermediates), f.root()))
	return v
}
