package daemon

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/lockstep-tls/lockstep/audit"
	"github.com/lockstep-tls/lockstep/identity"
	"github.com/lockstep-tls/lockstep/store"
)

// recordPolicy is called before another policy takes effect.
func (d *Daemon) recordPolicy(p *identity.Policy, text []byte) error {
	e := policyEntry(d.cfg.Policy, p, text, "the file was changed")
	return d.appendPolicy(context.Background(), e)
}

// appendPolicy writes the line of a policy that is about to count. One that counted before and was replaced since is named as such.
func (d *Daemon) appendPolicy(ctx context.Context, e audit.Entry) error {
	at, back := superseded(d.data.policies(), e.Key)
	if back {
		e.Why += ". It was put back: another took its place at " + at.UTC().Format(time.RFC3339)
	}
	if _, err := d.audit.Append(ctx, e); err != nil {
		return err
	}
	if back {
		d.log.Warn("an older policy was put back", "file", e.Name, "replaced", at, "sha256", e.Key)
	}
	return d.data.rememberPolicy(e.Key)
}

// policyEntry tells of the policy in a file; of none, where p is nil. The digest of its text is what it is known by.
func policyEntry(file string, p *identity.Policy, text []byte, why string) audit.Entry {
	e := audit.Entry{Actor: "lockstepd", What: "policy", Name: file, Why: why + ": no policy: whoever can connect gets everything"}
	if p != nil {
		e.Key, e.Why = fmt.Sprintf("%x", sha256.Sum256(text)), fmt.Sprintf("%s: %d rules", why, p.Rules())
	}
	return e
}

// policyLines is how many lines of the log are looked through for what the policy was: a start must not take long.
const policyLines = 4096

// recordedPolicy is the digest in this replica's newest line on its policy, which is "" if that says that there was none. found: there is such a line. whole: no line
// is known to be missing among those that were looked through, so that none came after it.
func (d *Daemon) recordedPolicy(ctx context.Context) (digest string, found, whole bool, err error) {
	for n := 64; ; n *= 4 {
		lines, whole, err := d.audit.Newest(ctx, n)
		if err != nil {
			return "", false, false, err
		}
		for _, l := range slices.Backward(lines) {
			if l.What == "policy" && l.Replica == d.data.replica {
				return l.Key, true, whole, nil
			}
		}
		if len(lines) < n || n >= policyLines {
			return "", false, whole, nil
		}
	}
}

// policyAtStart is the line that is due if the policy is another one than before: it was changed, or left out, while lockstepd did not run.
func (d *Daemon) policyAtStart() audit.Entry {
	if d.policy == nil {
		return policyEntry("", nil, nil, "at start")
	}
	p, text := d.policy.inForce()
	return policyEntry(d.cfg.Policy, p, text, "at start")
}

// recordPolicyAtStart writes the line if it is due. settled: the policy may count, since the log, or the data directory, says that it did before; or since
// the store is frozen, and nothing says that it did not. With an error, that is to be tried again.
func (d *Daemon) recordPolicyAtStart(ctx context.Context) (settled bool, err error) {
	e := d.policyAtStart()
	last, remembered := d.data.lastPolicy()
	settled = remembered && last == e.Key
	was, found, whole, err := d.recordedPolicy(ctx)
	if err != nil {
		return settled, fmt.Errorf("what the policy was cannot be read in the audit log: %w", err)
	}
	same := found && was == e.Key || !found && e.Key == ""
	switch {
	case whole && same:
		return true, d.data.rememberPolicy(e.Key)
	case settled && (!whole || !found): // the line is lost, or out of reach
		return true, nil
	}
	if err = d.appendPolicy(ctx, e); err == nil {
		return true, nil
	}
	changed := remembered && last != e.Key || found && was != e.Key
	return settled || errors.Is(err, store.ErrFrozen) && !changed, err
}

// settlePolicy calls recordPolicyAtStart until it succeeds, or ctx ends, says why it waits, and lets nodes in as soon as the policy may count.
func (d *Daemon) settlePolicy(ctx context.Context) {
	settle := sync.OnceFunc(func() { close(d.settled) })
	if last, ok := d.data.lastPolicy(); ok && last == d.policyAtStart().Key {
		settle() // however long the log takes
	}
	for said := ""; ; {
		settled, err := d.recordPolicyAtStart(ctx)
		if settled {
			settle()
		}
		if err == nil {
			d.unsettled.Store(nil)
			return
		}
		d.unsettled.Store(&err)
		if err.Error() != said {
			said = err.Error()
			d.log.Error("the audit log does not say which policy is in force; a policy that is not known to be unchanged lets no node in before it does", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Second):
		}
	}
}

// policyUnwritten is why the log does not say which policy is in force although nodes are let in; nil if it does.
func (d *Daemon) policyUnwritten() error {
	if err := d.unsettled.Load(); err != nil && d.policyUnsettled() == nil {
		return fmt.Errorf("the audit log does not say yet which policy is in force, and until then no other one is read: %w", *err)
	}
	return nil
}

// policyUnsettled is why no node is let in yet as far as the policy goes; nil once it is settled.
func (d *Daemon) policyUnsettled() error {
	select {
	case <-d.settled:
		return nil
	default:
	}
	if err := d.unsettled.Load(); err != nil {
		return fmt.Errorf("the audit log does not say which policy is in force: %w", *err)
	}
	return errors.New("what the policy was is being read in the audit log")
}
