package enforce

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-tls/lockstep/internal/atomicfile"
)

// history is a file with the policies that counted and stand in the audit log, the newest last.
// Each line has the digest of a policy, or noPolicy, and when it came into force. The file is
// written after the line of the log, and before the policy counts. So a restart with the same
// policy needs no log, and a policy that is put back is noticed.
type history struct{ path string }

const (
	noPolicy    = "none"
	maxPolicies = 1000 // that are remembered
)

// term is the time of a policy.
type term struct {
	digest string // empty: there was no policy
	from   time.Time
}

// read returns nothing if there is no file, or if it cannot be read.
func (h history) read() (all []term) {
	b, err := os.ReadFile(h.path)
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(b)) {
		digest, from, _ := strings.Cut(strings.TrimSpace(line), " ")
		at, err := time.Parse(time.RFC3339, from)
		if err != nil {
			return nil
		}
		if digest == noPolicy {
			digest = ""
		}
		all = append(all, term{digest, at})
	}
	return all
}

// last returns the digest of the policy that counted last. ok is false if that is not known.
func (h history) last() (digest string, ok bool) {
	all := h.read()
	if len(all) == 0 {
		return "", false
	}
	return all[len(all)-1].digest, true
}

// add writes that a policy counts from now on. It does nothing if that policy was the last one.
func (h history) add(digest string) error {
	all := h.read()
	if n := len(all); n > 0 && all[n-1].digest == digest {
		return nil
	}
	all = append(all, term{digest, time.Now()})
	if over := len(all) - maxPolicies; over > 0 {
		all = all[over:]
	}
	var b bytes.Buffer
	for _, t := range all {
		word := t.digest
		if word == "" {
			word = noPolicy
		}
		fmt.Fprintln(&b, word, t.from.UTC().Format(time.RFC3339))
	}
	if err := atomicfile.Write(h.path, b.Bytes(), 0o600); err != nil {
		return fmt.Errorf("which policy counts cannot be written to the data directory: %w", err)
	}
	return nil
}

// superseded returns when another policy took the place of this one, which now comes back, or has
// just done so. ok is false for a policy that did not count before.
func superseded(all []term, digest string) (at time.Time, ok bool) {
	if n := len(all) - 1; n >= 0 && all[n].digest == digest {
		all = all[:n]
	}
	for i, t := range slices.Backward(all) {
		if t.digest == digest && i+1 < len(all) {
			return all[i+1].from, true
		}
	}
	return time.Time{}, false
}

// putBackShown is how long a policy that was put back is named as a problem. It may have been
// meant.
const putBackShown = 24 * time.Hour

// ErrPutBack says that the policy in force counted before and was replaced since.
var ErrPutBack = errors.New("if that was not meant, put the newer one there")

// PutBack returns an error that wraps [ErrPutBack] if the policy in force was put back. It is nil
// if that is not so, or has been so for longer than a day.
func (e *Enforcer) PutBack() error {
	all := e.history.read()
	if len(all) == 0 || time.Since(all[len(all)-1].from) > putBackShown {
		return nil
	}
	now := all[len(all)-1]
	at, ok := superseded(all, now.digest)
	if !ok {
		return nil
	}
	what := "the policy in force since %s is an older one that was put back: another took its place at %s"
	if now.digest == "" {
		what = "since %s there is no policy any more, as before the one that came into force at %s"
	}
	return putBack{now.from,
		fmt.Errorf(what+": %w", now.from.UTC().Format(time.RFC3339), at.UTC().Format(time.RFC3339), ErrPutBack)}
}

// putBack is an error that says since when a policy is in force again.
type putBack struct {
	from time.Time
	error
}

// Since returns when the policy came into force again.
func (p putBack) Since() time.Time { return p.from }
func (p putBack) Unwrap() error    { return p.error }
