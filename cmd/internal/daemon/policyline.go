package daemon

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/lockstep-tls/lockstep/audit"
	"github.com/lockstep-tls/lockstep/identity"
)

// recordPolicy is called before another policy takes effect.
func (d *Daemon) recordPolicy(p *identity.Policy, text []byte) error {
	_, err := d.audit.Append(context.Background(), policyEntry(d.cfg.Policy, p, text, "the file was changed"))
	return err
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

// recordedPolicy is the digest in this replica's newest line on its policy; "" if that says that there was none, or if there is no such line.
func (d *Daemon) recordedPolicy(ctx context.Context) (digest string, err error) {
	for n := 64; ; n *= 4 {
		lines, err := d.audit.Lines(ctx, n)
		if err != nil {
			return "", err
		}
		for _, l := range slices.Backward(lines) {
			if l.What == "policy" && l.Replica == d.data.replica {
				return l.Key, nil
			}
		}
		if len(lines) < n || n >= policyLines {
			return "", nil
		}
	}
}

// recordPolicyAtStart writes a line if the policy is another one than the newest line of this replica says: it was changed, or left out, while lockstepd did not
// run. The policy counts once it returns nil; until then no node is let in.
func (d *Daemon) recordPolicyAtStart(ctx context.Context) error {
	e := policyEntry("", nil, nil, "at start")
	if d.policy != nil {
		p, text := d.policy.inForce()
		e = policyEntry(d.cfg.Policy, p, text, "at start")
	}
	was, err := d.recordedPolicy(ctx)
	if err != nil {
		return fmt.Errorf("what the policy was cannot be read in the audit log: %w", err)
	}
	if was == e.Key {
		return nil
	}
	_, err = d.audit.Append(ctx, e)
	return err
}

// settlePolicy calls recordPolicyAtStart until it succeeds, or ctx ends, and says why it waits.
func (d *Daemon) settlePolicy(ctx context.Context) {
	for said := ""; ; {
		err := d.recordPolicyAtStart(ctx)
		if err == nil {
			close(d.settled)
			return
		}
		d.unsettled.Store(&err)
		if err.Error() != said {
			said = err.Error()
			d.log.Error("no node is let in before the audit log says which policy is in force", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Second):
		}
	}
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
