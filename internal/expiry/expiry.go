// Package expiry says how near its end a certificate is.
//
// What counts as near depends on who renews the certificate, and on how long it lives. So a [Rule]
// is a part of the lifetime, with a bound. One of a year and one of an hour are judged alike.
//
// The package knows times and words. It does not know whose certificate it is, and starts nothing.
package expiry

import (
	"fmt"
	"time"
)

const day = 24 * time.Hour

// Rule says how long before its end a certificate is near it: the smaller one of a part of its
// lifetime and of a bound.
type Rule struct {
	Part  int // Part is which part of the lifetime: 3 is a third.
	Bound time.Duration
}

// These are the rules.
//
// Proof is for the certificates with which lockstepd and its nodes prove who they are. Many of them
// are renewed by hand, so the warning comes early.
//
// Served is for the certificates that hosts show to clients. ACME clients and cert-manager renew
// them when a third of their lifetime is left. So with a quarter left a renewal has failed, and not
// merely begun. That is 22 days of 90, 11 days of 47, and a day and a half of 6.
//
// Urgent is when somebody has to act today. It is three days for a lifetime of a month or more.
var (
	Proof  = Rule{3, 30 * day}
	Served = Rule{4, 30 * day}
	Urgent = Rule{10, 3 * day}
)

// Before returns how long before its end a certificate of that lifetime is near it.
func (r Rule) Before(life time.Duration) time.Duration {
	return min(life/time.Duration(r.Part), r.Bound)
}

// State is how near its end a certificate is.
type State int

// These are the states, the best one first.
const (
	Good State = iota
	Near
	Last // Last means near its end by [Urgent], too.
	Expired
)

func (s State) String() string { return [...]string{"good", "near its end", "urgent", "expired"}[s] }

// Span is when a certificate is valid.
type Span struct{ NotBefore, NotAfter time.Time }

// NearFrom returns from when on the certificate is near its end.
func (s Span) NearFrom(r Rule) time.Time { return s.NotAfter.Add(-r.Before(s.life())) }

func (s Span) life() time.Duration { return max(0, s.NotAfter.Sub(s.NotBefore)) }

// State returns the state at now.
func (s Span) State(r Rule, now time.Time) State {
	switch {
	case now.After(s.NotAfter):
		return Expired
	case !now.Before(s.NearFrom(Urgent)):
		return Last
	case !now.Before(s.NearFrom(r)):
		return Near
	}
	return Good
}

// Words says when it ends, or ended: "expires in 3d4h, at 2006-01-02T15:04:05Z".
func (s Span) Words(now time.Time) string {
	left := s.NotAfter.Sub(now)
	at := s.NotAfter.UTC().Format(time.RFC3339)
	if left < 0 {
		return fmt.Sprintf("expired %s ago, at %s", Round(-left), at)
	}
	return fmt.Sprintf("expires in %s, at %s", Round(left), at)
}

// Round writes a duration with the two units that count: 12d3h, 3h5m, 2m10s.
func Round(d time.Duration) string {
	switch {
	case d >= day:
		d = d.Truncate(time.Hour)
		return fmt.Sprintf("%dd%dh", d/day, d%day/time.Hour)
	case d >= time.Hour:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	case d >= time.Minute:
		return fmt.Sprintf("%dm%ds", d/time.Minute, d%time.Minute/time.Second)
	}
	return fmt.Sprintf("%ds", d/time.Second)
}
