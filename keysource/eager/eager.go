package eager

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"path"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/store"
)

// Config is what an [Eager] needs. Only Store is required.
type Config struct {
	// Store holds the pins.
	Store store.Store
	// Hosts are eager by the configuration, with or without a certificate.
	Hosts []keysource.Name
	// Match are globs ([path.Match]; a star matches dots too). The name of a certificate that one
	// of them matches is eager.
	Match []string
	// Max bounds the eager hosts. What is beyond it goes on demand. Those of Hosts come first,
	// then pins, the oldest first, then matched names, in order. The default is 2000.
	Max int
	// Names yields the name of every certificate, each once, when all are known. It is called only
	// if Match is not empty, and seldom.
	Names func(context.Context) iter.Seq2[keysource.Name, error]
	// Sources say whether a name has a certificate. They are asked only for names that Match
	// matches.
	Sources keysource.Sources
	// Refresh is the time between two looks for pins made by other replicas. The default is 5 s.
	Refresh time.Duration
	// Changed is called with the eager hosts, at first and whenever they may have changed. Run's
	// goroutine calls it. It must not block, and must not change the slice.
	Changed func([]keysource.Name)
	// Before is called before a pin is made or removed, once for each change. Its error refuses
	// the change.
	Before func(ctx context.Context, n keysource.Name, pinned bool) error
	// Log gets what an operator should know.
	Log *slog.Logger
}

// Host is a host that is to be eager.
type Host struct {
	Name      keysource.Name
	By        By
	BeyondMax bool // it is beyond Max and goes on demand
	// Since and Who belong to a pin.
	Since time.Time
	Who   string
}

// By is what makes a host eager.
type By string

const (
	Configured By = "config" // [Config].Hosts names it
	Pinned     By = "pin"
	Matched    By = "match" // [Config].Match matches the name of its certificate
)

// Eager is the set of eager hosts. All methods are safe for concurrent use.
type Eager struct {
	cfg    Config                 // but for Hosts, Match and Max
	choice atomic.Pointer[choice] // these three
	wake   chan struct{}          // capacity 1

	mu      sync.Mutex
	pins    map[keysource.Name]pin
	matched matches
	// changed has the names whose certificates may have come or gone.
	changed map[keysource.Name]struct{}
	ready   bool // pins and certificates were read

	rescan     bool // more has changed than changed can hold
	miscounted bool // matched.more may be wrong
	scanning   bool
	scanned    time.Time     // when the last scan ended; zero if there was none
	scannedFor *choice       // whose Match the last scan went by
	scanTook   time.Duration // how long that scan took

	since store.Rev // only Run uses it
}

const (
	// DefaultMax is the default of [Config].Max. An eager chain costs each Envoy some 65 KB.
	DefaultMax     = 2000
	defaultRefresh = 5 * time.Second
	maxChanged     = 10_000
)

// choice is what the configuration says about which hosts are eager. It does not change.
type choice struct {
	hosts []keysource.Name
	match []string
	max   int
}

// Choose puts others in the place of [Config].Hosts, Match and Max. Hosts that stay eager do so
// without a break. Run announces the rest once it has looked at the certificates. The error names
// a glob that is malformed, and then nothing changes.
func (e *Eager) Choose(hosts []keysource.Name, match []string, most int) error {
	c, err := newChoice(hosts, match, most)
	if err != nil {
		return err
	}
	e.choice.Store(c)
	e.Wake()
	return nil
}

// Check refuses globs of which one is malformed, and names it.
func Check(match []string) error {
	for _, glob := range match {
		if _, err := path.Match(glob, ""); err != nil || glob == "" {
			return fmt.Errorf("%q is no glob", glob)
		}
	}
	return nil
}

func newChoice(hosts []keysource.Name, match []string, most int) (*choice, error) {
	if err := Check(match); err != nil {
		return nil, err
	}
	if most <= 0 {
		most = DefaultMax
	}
	return &choice{hosts, match, most}, nil
}

// New returns an Eager, and starts nothing. Its error names a glob that is malformed.
func New(c Config) (*Eager, error) {
	chosen, err := newChoice(c.Hosts, c.Match, c.Max)
	if err != nil {
		return nil, err
	}
	if c.Refresh <= 0 {
		c.Refresh = defaultRefresh
	}
	if c.Changed == nil {
		c.Changed = func([]keysource.Name) {}
	}
	if c.Before == nil {
		c.Before = func(context.Context, keysource.Name, bool) error { return nil }
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	e := &Eager{
		cfg: c, wake: make(chan struct{}, 1),
		pins: map[keysource.Name]pin{}, matched: matches{keep: chosen.max + keepBeyond},
		changed: map[keysource.Name]struct{}{},
	}
	e.choice.Store(chosen)
	return e, nil
}

// Max returns how many hosts may be eager.
func (e *Eager) Max() int { return e.choice.Load().max }

// Ready reports whether pins and certificates were read. Before that Hosts is not complete.
func (e *Eager) Ready() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.ready
}

// Hosts lists all that is to be eager, in the order in which it counts. more is how many further
// certificates were matched when they were counted last, which may be ten minutes ago.
func (e *Eager) Hosts() (hosts []Host, more int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c := e.choice.Load()
	seen := map[keysource.Name]bool{}
	add := func(h Host) {
		if !seen[h.Name] {
			seen[h.Name] = true
			h.BeyondMax = len(hosts) >= c.max
			hosts = append(hosts, h)
		}
	}
	for _, n := range c.hosts {
		add(Host{Name: n, By: Configured})
	}
	for _, n := range e.oldest() {
		add(Host{Name: n, By: Pinned, Since: e.pins[n].At, Who: e.pins[n].By})
	}
	for _, n := range e.matched.names {
		add(Host{Name: n, By: Matched})
	}
	return hosts, e.matched.more
}

// announce calls Changed with the hosts that are eager now.
func (e *Eager) announce() {
	hosts, _ := e.Hosts()
	var names []keysource.Name
	for _, h := range hosts {
		if !h.BeyondMax {
			names = append(names, h.Name)
		}
	}
	e.cfg.Changed(slices.Clip(names))
}
