package daemon

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-tls/lockstep/internal/atomicfile"
)

// policyMark is the file of the data directory with the policies that counted and stand in the audit log: for each, a line with its digest, or noPolicy, and when it
// came into force; the newest last. So a restart with the same policy needs no log, and one that is put back is noticed. It is written after the line of the log, and
// before the policy counts.
const (
	policyMark   = "policy.mark"
	noPolicy     = "none"
	policiesMost = 1000 // that are remembered
)

// term is the time of a policy.
type term struct {
	digest string // "": none
	from   time.Time
}

// policies reads the file; none where there is no file, or one that cannot be read.
func (d *dataDir) policies() (all []term) {
	b, err := os.ReadFile(filepath.Join(d.path, policyMark))
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

// lastPolicy is the digest of the policy that counted last, "" for none; ok is false where that is not known.
func (d *dataDir) lastPolicy() (digest string, ok bool) {
	all := d.policies()
	if len(all) == 0 {
		return "", false
	}
	return all[len(all)-1].digest, true
}

// superseded is since when a policy had not counted any more before it came, or comes, back: another had taken its place. ok is false for one that did not count before.
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

func (d *dataDir) rememberPolicy(digest string) error {
	all := d.policies()
	if n := len(all); n > 0 && all[n-1].digest == digest {
		return nil
	}
	all = append(all, term{digest, time.Now()})
	if over := len(all) - policiesMost; over > 0 {
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
	if err := atomicfile.Write(filepath.Join(d.path, policyMark), b.Bytes(), 0o600); err != nil {
		return fmt.Errorf("which policy counts cannot be written to the data directory: %w", err)
	}
	return nil
}

// putBackShown is how long a policy that was put back is complained of: it may have been meant.
const putBackShown = 24 * time.Hour

// policyPutBack says that the policy in force is one that counted before and was replaced since; "" where it is not, or has been for long.
func (d *dataDir) policyPutBack() string {
	all := d.policies()
	if len(all) == 0 || time.Since(all[len(all)-1].from) > putBackShown {
		return ""
	}
	now := all[len(all)-1]
	at, ok := superseded(all, now.digest)
	if !ok {
		return ""
	}
	what := "the policy in force since %s is an older one that was put back: another took its place at %s"
	if now.digest == "" {
		what = "since %s there is no policy any more, as before the one that came into force at %s"
	}
	return fmt.Sprintf(what+". If that was not meant, put the newer one there (lockstep audit show has the digests)",
		now.from.UTC().Format(time.RFC3339), at.UTC().Format(time.RFC3339))
}
