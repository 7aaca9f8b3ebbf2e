package enforce

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"time"
)

// digest identifies a policy by its text.
func digest(text []byte) string { return fmt.Sprintf("%x", sha256.Sum256(text)) }

// lineOf is the line of a policy that stands in file. Without a policy inside p it says that
// there is none.
func lineOf(file string, p policy, why string) Line {
	if p.Policy == nil {
		return Line{Why: why + ": no policy: whoever can connect gets everything"}
	}
	return Line{File: file, Digest: p.digest, Why: fmt.Sprintf("%s: %d rules", why, p.Rules())}
}

// record writes the line of a policy that is about to count. The line says so if the policy counted
// before and was replaced since.
func (e *Enforcer) record(ctx context.Context, l Line) error {
	at, back := superseded(e.history.read(), l.Digest)
	if back {
		l.Why += ". It was put back: another took its place at " + at.UTC().Format(time.RFC3339)
	}
	if err := e.cfg.Audit.Record(ctx, l); err != nil {
		return err
	}
	if back {
		e.cfg.Log.Warn("an older policy was put back", "file", l.File, "replaced", at, "sha256", l.Digest)
	}
	return e.history.add(l.Digest)
}

// maxLines bounds how many lines of the log are looked through for what the policy was. A start
// must not take long.
const maxLines = 4096

// recorded returns the digest in this replica's newest line on its policy. The digest is empty if
// the line says that there was no policy. found reports that there is such a line, and whole that
// no line is known to be missing among those that were looked through. So with whole none came
// later.
func (e *Enforcer) recorded(ctx context.Context) (digest string, found, whole bool, err error) {
	for n := 64; ; n *= 4 {
		lines, seen, whole, err := e.cfg.Audit.Newest(ctx, n)
		if err != nil {
			return "", false, false, err
		}
		if n := len(lines); n > 0 {
			return lines[n-1].Digest, true, whole, nil
		}
		if seen < n || n >= maxLines {
			return "", false, whole, nil
		}
	}
}

// atStart is the line that is due if another policy counted before. The file was then changed, or
// left out of the configuration, while the process did not run.
func (e *Enforcer) atStart() Line {
	if e.file == nil {
		return lineOf("", policy{}, "at start")
	}
	return lineOf(e.cfg.File, e.file.Now(), "at start")
}

// recordAtStart writes the line if it is due. settled reports that the policy may count: the log or
// the history says that it did before, or the store is frozen and nothing says that it did not.
// After an error it is to be called again.
func (e *Enforcer) recordAtStart(ctx context.Context) (settled bool, err error) {
	l := e.atStart()
	last, remembered := e.history.last()
	settled = remembered && last == l.Digest
	was, found, whole, err := e.recorded(ctx)
	if err != nil {
		return settled, fmt.Errorf("what the policy was cannot be read in the audit log: %w", err)
	}
	same := found && was == l.Digest || !found && l.Digest == ""
	switch {
	case whole && same:
		return true, e.history.add(l.Digest)
	case settled && (!whole || !found): // the line is lost, or further back than was looked
		return true, nil
	}
	if err = e.record(ctx, l); err == nil {
		return true, nil
	}
	changed := remembered && last != l.Digest || found && was != l.Digest
	return settled || e.cfg.Frozen(err) && !changed, err
}

// settle calls recordAtStart until it succeeds or ctx ends, and closes settled as soon as the
// policy may count.
func (e *Enforcer) settle(ctx context.Context) {
	settle := sync.OnceFunc(func() { close(e.settled) })
	if last, ok := e.history.last(); ok && last == e.atStart().Digest {
		settle() // however long the log takes
	}
	for said := ""; ; {
		settled, err := e.recordAtStart(ctx)
		if settled {
			settle()
		}
		if err == nil {
			e.unsettled.Store(nil)
			return
		}
		e.unsettled.Store(&err)
		if err.Error() != said {
			said = err.Error()
			e.cfg.Log.Error("the audit log does not say which policy is in force; "+
				"a policy that is not known to be unchanged lets no node in before it does", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Second):
		}
	}
}

// Settled is closed once the policy may count. Before that no node may be let in.
func (e *Enforcer) Settled() <-chan struct{} { return e.settled }

// Unsettled returns why no node may be let in yet. It is nil once the policy is settled.
func (e *Enforcer) Unsettled() error {
	select {
	case <-e.settled:
		return nil
	default:
	}
	if err := e.unsettled.Load(); err != nil {
		return fmt.Errorf("the audit log does not say which policy is in force: %w", *err)
	}
	return errors.New("what the policy was is being read in the audit log")
}

// unwritten returns why the log does not say which policy is in force although nodes are let in. It
// is nil if the log does.
func (e *Enforcer) unwritten() error {
	if err := e.unsettled.Load(); err != nil && e.Unsettled() == nil {
		return fmt.Errorf("%w: %w", ErrUnlogged, *err)
	}
	return nil
}
