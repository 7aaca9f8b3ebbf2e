package daemon

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/lockstep-tls/lockstep/identity"
	"github.com/lockstep-tls/lockstep/sds"
)

// policyFile is policy.yaml as it is in force. The file is read again as it changes; while what stands in it is no policy, the last good one stays.
type policyFile struct {
	path   string
	scopes []string // that are configured
	rescan time.Duration
	log    *slog.Logger
	apply  func(*identity.Policy)               // called with each new policy, by run
	record func(*identity.Policy, []byte) error // called before; its error refuses the policy

	mu     sync.Mutex
	text   []byte
	policy *identity.Policy
	err    error  // why the file is not in force; nil while it is
	taken  uint64 // times that a policy took effect
	bad    uint64 // times that one was refused
}

// openPolicy reads the file for the first time; a policy must be there and good before anything is served by it.
func openPolicy(path string, scopes []string, rescan time.Duration, log *slog.Logger) (*policyFile, error) {
	f := &policyFile{path: path, scopes: scopes, rescan: rescan, log: log}
	if f.read(); f.err != nil {
		return nil, fmt.Errorf("policy: %w", f.err)
	}
	return f, nil
}

// openPolicy says who may have what: by the file, or everybody everything.
func (d *Daemon) openPolicy() (err error) {
	d.denials = newDenials(d.log)
	switch {
	case d.cfg.Policy != "":
		d.policy, err = openPolicy(d.cfg.Policy, slices.Sorted(maps.Keys(d.cfg.Scopes)), d.cfg.Refresh, d.log)
		if err == nil {
			d.policy.apply = func(p *identity.Policy) {
				d.table.SetPolicy(p)
				d.rolls.SetAllows(scopesOf(p))
				if d.listeners != nil {
					d.listeners.table.SetPolicy(p)
				}
			}
			d.policy.record = d.recordPolicy
		}
	case isSocket(d.cfg.XDSListen):
		d.log.Info("no policy: whoever may open the socket gets every secret", "addr", d.cfg.XDSListen)
	case d.tls != nil:
		d.log.Warn("no policy: every node with a certificate of the CA gets every secret; give --policy to say who may have what", "addr", d.cfg.XDSListen)
	default:
		d.log.Info("no policy: every process of this machine gets every secret", "addr", d.cfg.XDSListen)
	}
	return err
}

// read takes over what stands in the file, and reports whether that is a new policy.
func (f *policyFile) read() bool {
	text, err := os.ReadFile(f.path)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil && f.policy != nil && bytes.Equal(text, f.text) {
		f.err = nil
		return false
	}
	var p *identity.Policy
	if err == nil {
		if p, err = identity.Parse(text); err != nil {
			err = fmt.Errorf("%s: %w", f.path, err)
		}
	}
	if err == nil && f.policy != nil && f.record != nil {
		err = f.record(p, text)
	}
	if err != nil {
		if f.err == nil || f.err.Error() != err.Error() {
			f.bad++
			if f.policy != nil {
				f.log.Error("the policy cannot be used; the last good one stays in force", "err", err)
			}
		}
		f.err = err
		return false
	}
	f.text, f.policy, f.err = text, p, nil
	f.taken++
	f.log.Info("policy in force: what no rule grants is denied", "file", f.path, "rules", p.Rules())
	for _, s := range p.Scopes() {
		if !slices.Contains(f.scopes, s) {
			f.log.Warn("the policy names a scope that is not configured", "scope", s, "configured", f.scopes)
		}
	}
	return true
}

// now is the policy in force; nil where there is none.
func (f *policyFile) now() *identity.Policy {
	if f == nil {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.policy
}

// inForce is the policy in force with the text of its file.
func (f *policyFile) inForce() (*identity.Policy, []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.policy, f.text
}

// guard is now as the table takes it.
func (f *policyFile) guard() sds.Policy {
	if f == nil {
		return nil
	}
	return f.now()
}

// ill says why the file is not in force; nil while it is.
func (f *policyFile) ill() error {
	if f == nil {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

func (f *policyFile) reads() (taken, bad uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.taken, f.bad
}

// settle is how long the file may be in the making after inotify named it.
const settle = 20 * time.Millisecond

// run watches the file until ctx ends: by inotify on its folder, since it may be replaced, or be a link that is (a Kubernetes volume), and by
// looking at it each rescan.
func (f *policyFile) run(ctx context.Context) error {
	var events <-chan fsnotify.Event
	if w, err := fsnotify.NewWatcher(); err == nil {
		defer w.Close()
		if err = w.Add(filepath.Dir(f.path)); err == nil {
			events = w.Events
		}
	}
	if events == nil {
		f.log.Warn("no inotify: a change of the policy is found by the rescan alone", "file", f.path, "every", f.rescan)
	}
	tick := time.NewTicker(f.rescan)
	defer tick.Stop()
	soon := time.After(0) // it may have changed before it was watched
	for {
		select {
		case <-ctx.Done():
			return nil
		case _, ok := <-events:
			if !ok {
				events = nil
			} else if soon == nil {
				soon = time.After(settle)
			}
			continue
		case <-soon:
			soon = nil
		case <-tick.C:
		}
		if f.read() {
			f.apply(f.now())
		}
	}
}
