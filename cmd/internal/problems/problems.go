package problems

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/advice"
	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/identity/enforce"
	"github.com/lockstep-tls/lockstep/identity/transport"
	"github.com/lockstep-tls/lockstep/rotation/fleet"
)

// ofErrors are the codes of the sentinels. The first one that is wrapped counts.
var ofErrors = []struct {
	err  error
	code string
}{
	{enforce.ErrUnusable, PolicyUnusable},
	{enforce.ErrUnsettled, PolicyUnsettled},
	{enforce.ErrUnlogged, PolicyUnwritten},
	{enforce.ErrPutBack, PolicyPutBack},
	{transport.ErrExpired, OwnExpired},
	{transport.ErrNearEnd, OwnNearEnd},
	{fleet.ErrUnrecorded, RingUnrecorded},
}

// New returns a problem with the severity and the next step of its code. The caller may set
// others, and since when it stands, if that is known.
func New(code, where, text string) api.Problem {
	k, _ := Find(code)
	return api.Problem{Code: code, Severity: k.Severity, Where: where, Text: text, Next: k.Next}
}

// Of returns a problem of an error that wraps one of the sentinels that have a code. What to type
// is what package advice has for the error. An error with a method Since() time.Time tells since
// when.
func Of(where string, err error) api.Problem {
	for _, e := range ofErrors {
		if errors.Is(err, e.err) {
			return As(e.code, where, err)
		}
	}
	return As("unknown", where, err)
}

// As is [Of] for a code that the caller knows. If where is empty, an error with a method
// Where() string says it.
func As(code, where string, err error) api.Problem {
	var placed interface{ Where() string }
	if where == "" && errors.As(err, &placed) {
		where = placed.Where()
	}
	p := New(code, where, err.Error())
	p.Next = cmp.Or(advice.For(err), p.Next)
	var dated interface{ Since() time.Time }
	if errors.As(err, &dated) {
		p.Since = dated.Since()
	}
	return p
}

// Sort puts the most severe first, then those that come first in the register. What somebody has
// acknowledged comes last.
func Sort(all []api.Problem) {
	slices.SortStableFunc(all, func(a, b api.Problem) int {
		return cmp.Or(
			known(a)-known(b),
			slices.Index(api.Severities, a.Severity)-slices.Index(api.Severities, b.Severity),
			rank(a.Code)-rank(b.Code), cmp.Compare(a.Where, b.Where), a.Since.Compare(b.Since),
		)
	})
}

// known orders problems by whether somebody has acknowledged them.
func known(p api.Problem) int {
	if p.Acknowledged != nil {
		return 1
	}
	return 0
}

// worse reports whether a is more severe than b.
func worse(a, b api.Severity) bool {
	return slices.Index(api.Severities, a) < slices.Index(api.Severities, b)
}

func rank(code string) int {
	i := slices.IndexFunc(Register, func(k Kind) bool { return k.Code == code })
	if i < 0 {
		return len(Register)
	}
	return i
}

// Counts reports whether p makes the status degraded.
func Counts(p api.Problem) bool { return p.Severity != api.Notice && p.Acknowledged == nil }

// Degraded returns the problems that make the status degraded, as sentences with what to do.
func Degraded(all []api.Problem) []string {
	out := []string{}
	for _, p := range all {
		if Counts(p) {
			out = append(out, Sentence(p))
		}
	}
	return out
}

// Sentence is a problem in words, with what to do in parentheses. It names the other replicas that
// have it.
func Sentence(p api.Problem) string {
	text := p.Text
	if len(p.Replicas) > 0 {
		text = fmt.Sprintf("at %s: %s", strings.Join(p.Replicas, ", "), text)
	}
	if p.Next == "" {
		return text
	}
	return fmt.Sprintf("%s (%s)", text, p.Next)
}
