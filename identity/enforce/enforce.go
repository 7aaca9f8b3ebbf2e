package enforce

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/lockstep-tls/lockstep/identity"
	"github.com/lockstep-tls/lockstep/internal/watchfile"
)

// Config of an [Enforcer].
type Config struct {
	// File holds the policy. Empty: there is no policy, and everybody may have everything.
	File string
	// Scopes are those that are configured. A policy that names another is warned of.
	Scopes []string
	// Refresh is how often the file is read, besides each time that inotify names it.
	Refresh time.Duration
	// HistoryFile remembers the policies that counted.
	HistoryFile string
	Audit       Audit
	// Frozen reports whether an error of Audit means that the store takes no changes for now.
	Frozen func(error) bool
	// Apply is called by Run with each policy that replaces another.
	Apply func(*identity.Policy)
	Log   *slog.Logger
}

// Audit is the audit log as this package needs it.
type Audit interface {
	// Record writes a line. After an error the policy that it names must not count.
	Record(ctx context.Context, l Line) error
	// Newest looks through the newest n lines of the log. It returns how many there were, and those
	// that this replica wrote by Record, oldest first. whole reports that no line is known to be
	// missing among them.
	Newest(ctx context.Context, n int) (lines []Line, seen int, whole bool, err error)
}

// Line is what the audit log says of a policy.
type Line struct {
	File   string // the policy's; empty: there is no policy
	Digest string // SHA-256 of its text, in hex; empty: there is no policy
	Why    string
}

// Enforcer knows the policy in force. All methods are safe for concurrent use, but Run is called
// once.
type Enforcer struct {
	cfg     Config
	file    *watchfile.Watched[policy] // nil: there is no policy
	history history

	settled   chan struct{}         // closed once the policy may count
	unsettled atomic.Pointer[error] // why the audit log does not say yet which policy is in force
}

// policy is a policy with the digest of its text.
type policy struct {
	*identity.Policy
	digest string
}

// New reads the policy for the first time. It must be there and good before anything is served by
// it.
func New(c Config) (*Enforcer, error) {
	e := &Enforcer{cfg: c, history: history{c.HistoryFile}, settled: make(chan struct{})}
	if c.File == "" {
		return e, nil
	}
	file, err := watchfile.Open(e.load, c.File)
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	e.file = file
	e.announce()
	return e, nil
}

// Faults returns everything for which New refuses a file.
func Faults(file string) (all []error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return []error{fmt.Errorf("policy: %w", err)}
	}
	for _, err := range identity.Faults(b) {
		all = append(all, fmt.Errorf("policy: %s: %w", file, err))
	}
	return all
}

// load makes a policy of the file. One that replaces another is written down first.
func (e *Enforcer) load(files []watchfile.File) (policy, error) {
	f := files[0]
	if f.Err != nil {
		return policy{}, f.Err
	}
	parsed, err := identity.Parse(f.Bytes)
	if err != nil {
		return policy{}, fmt.Errorf("%s: %w", f.Path, err)
	}
	p := policy{parsed, digest(f.Bytes)}
	if e.file != nil {
		err = e.record(context.Background(), lineOf(f.Path, p, "the file was changed"))
	}
	return p, err
}

func (e *Enforcer) announce() {
	p := e.file.Now()
	e.cfg.Log.Info("policy in force: what no rule grants is denied", "file", e.cfg.File, "rules", p.Rules())
	for _, s := range p.Scopes() {
		if !slices.Contains(e.cfg.Scopes, s) {
			e.cfg.Log.Warn("the policy names a scope that is not configured", "scope", s, "configured", e.cfg.Scopes)
		}
	}
}

// Policy returns the policy in force. It is nil if there is none.
func (e *Enforcer) Policy() *identity.Policy {
	if e.file == nil {
		return nil
	}
	return e.file.Now().Policy
}

// Fault returns why the file is not in force as it stands. It is nil while it is.
func (e *Enforcer) Fault() error {
	if e.file == nil {
		return nil
	}
	return e.file.Err()
}

// Counts returns how often a policy took effect, and how often one was refused.
func (e *Enforcer) Counts() (taken, refused uint64) {
	if e.file == nil {
		return 0, 0
	}
	return e.file.Counts()
}

// These are what [Enforcer.Problems] wraps, besides [ErrPutBack].
var (
	ErrUnusable  = errors.New("the policy cannot be used, the last good one stays in force")
	ErrUnsettled = errors.New("no node is let in")
	ErrUnlogged  = errors.New("the audit log does not say yet which policy is in force, " +
		"and until then no other one is read")
)

// Problems returns what keeps the policy from being what the operator wants. Each error wraps one
// of the sentinels. One that wraps [ErrPutBack] has a method Since() time.Time.
func (e *Enforcer) Problems() (out []error) {
	if err := e.Fault(); err != nil {
		out = append(out, fmt.Errorf("%w: %w", ErrUnusable, err))
	}
	if err := e.Unsettled(); err != nil {
		out = append(out, fmt.Errorf("%w: %w", ErrUnsettled, err))
	}
	for _, err := range []error{e.unwritten(), e.PutBack()} {
		if err != nil {
			out = append(out, err)
		}
	}
	return out
}

// Run settles the policy, and then watches the file until ctx ends.
func (e *Enforcer) Run(ctx context.Context) error {
	e.settle(ctx)
	if e.file == nil || ctx.Err() != nil {
		return nil
	}
	e.file.Run(ctx, e.cfg.Refresh, e.look, func() {
		e.cfg.Log.Warn("no inotify: a change of the policy is found by the rescan alone",
			"file", e.cfg.File, "every", e.cfg.Refresh)
	})
	return nil
}

func (e *Enforcer) look() {
	changed, fault := e.file.Look()
	if fault != nil {
		e.cfg.Log.Error("the policy cannot be used; the last good one stays in force", "err", fault)
	}
	if changed {
		e.announce()
		e.cfg.Apply(e.Policy())
	}
}
