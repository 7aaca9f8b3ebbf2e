package reload

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"
)

// Config of a [Reloader]. C is the configuration of the program, a value.
type Config[C any] struct {
	Program string // Program is the name in texts.
	File    string // File is the path of the configuration. Empty stands for none.
	// Load reads the file and everything else that makes the configuration, and checks it.
	Load func() (C, error)
	// Check says why a start with next would be refused, beyond what Load knows, such as a file
	// that is not there. It looks at what differs from now. Nil stands for nothing.
	Check func(now, next C) error
	// Settings returns the settings by key; see package settings.
	Settings func(C) map[string]string
	// Live returns now with those settings of next that can change at run time.
	Live func(now, next C) C
	// Apply puts next in force, which Live returned, in the place of now. After an error nothing
	// has changed.
	Apply func(now, next C) error
	Log   *slog.Logger
}

// Reloader knows the configuration in force. All methods are safe for concurrent use, and of a nil
// one, which has no configuration.
type Reloader[C any] struct {
	cfg Config[C]

	mu  sync.Mutex
	now C // now is in force.
	// refused is the fault of the file at the last reload. It is nil if that was taken over.
	refused error
	seen    []byte // seen is the file as it was when words were made.
	words   []Problem
	fresh   bool      // fresh says that words belong to now and seen.
	until   time.Time // until is when words are made again, since Check reads other files.
}

// New returns a Reloader of a program that has started with now.
func New[C any](c Config[C], now C) *Reloader[C] { return &Reloader[C]{cfg: c, now: now} }

// Now returns the configuration in force.
func (r *Reloader[C]) Now() C {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now
}

// Run reloads at each signal until ctx ends. Then it returns nil.
func (r *Reloader[C]) Run(ctx context.Context, hup <-chan os.Signal) error {
	if r == nil {
		return nil
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-hup:
			r.Reload()
		}
	}
}

// Reload takes the file over as far as that can be done, and logs what came of it.
func (r *Reloader[C]) Reload() {
	log := r.cfg.Log
	if r.cfg.File == "" {
		log.Info("nothing to reload: there is no configuration file (--config); " +
			"certificates and policy files are watched anyway")
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fresh = false
	next, err := r.load()
	if err == nil {
		live := r.cfg.Live(r.now, next)
		if err = r.cfg.Apply(r.now, live); err == nil {
			r.refused = nil
			r.tell(live, next)
			r.now = live
			return
		}
	}
	r.refused = err
	log.Error("the configuration was not reloaded; the one that was read before stays in force",
		"file", r.cfg.File, "err", oneLine(err))
}

// load reads the file, and looks at what it names. The caller holds mu.
func (r *Reloader[C]) load() (next C, err error) {
	next, err = r.cfg.Load()
	if err == nil && r.cfg.Check != nil {
		err = r.cfg.Check(r.now, next)
	}
	return next, err
}

// tell logs what a reload changed, and what it did not. The caller holds mu.
func (r *Reloader[C]) tell(live, next C) {
	log := r.cfg.Log
	changed := Compare(r.cfg.Settings(r.now), r.cfg.Settings(live))
	log.Info("the configuration was reloaded", "file", r.cfg.File, "changed", len(changed))
	for _, d := range changed {
		log.Info("a setting has changed", "key", d.Key, "before", d.Now, "now", d.New)
	}
	for _, d := range Compare(r.cfg.Settings(live), r.cfg.Settings(next)) {
		log.Warn("a setting cannot change while "+r.cfg.Program+" runs: restart it", "key", d.Key, "in_force", d.Now,
			"in_file", d.New)
	}
}

// Problem is something that is wrong with the file.
type Problem struct {
	Code  string // Code is one of the constants.
	Where string // Where names the settings that it is about, if there are some.
	Text  string
}

// The codes of problems.
const (
	Unusable     = "config-unusable"
	NotReloaded  = "config-not-reloaded"
	NeedsRestart = "config-needs-restart"
)

// wordsLast is how long the words of a file hold that does not change.
const wordsLast = 10 * time.Second

// Problems says, for people, how the file differs from what is in force. It reads the file.
func (r *Reloader[C]) Problems() (out []Problem) {
	if r == nil || r.cfg.File == "" {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	b, err := os.ReadFile(r.cfg.File)
	now := time.Now()
	if err == nil && r.fresh && bytes.Equal(b, r.seen) && now.Before(r.until) {
		return r.words
	}
	r.seen, r.words, r.fresh, r.until = b, r.differences(), err == nil, now.Add(wordsLast)
	return r.words
}

// differences says how the file differs from what is in force. The caller holds mu.
func (r *Reloader[C]) differences() (out []Problem) {
	next, err := r.load()
	if err != nil {
		return []Problem{{Unusable, "", fmt.Sprintf("the configuration file cannot be used, what was read before "+
			"stays in force: %s", oneLine(err))}}
	}
	if r.refused != nil {
		out = append(out, Problem{Unusable, "", fmt.Sprintf("the last reload of the configuration was refused, what "+
			"was read before stays in force: %s", oneLine(r.refused))})
	}
	live := r.cfg.Live(r.now, next)
	if soon := Compare(r.cfg.Settings(r.now), r.cfg.Settings(live)); len(soon) > 0 {
		out = append(out, Problem{NotReloaded, keys(soon), fmt.Sprintf(
			"%s differs from what is in force, and was not reloaded: %s", r.cfg.File, named(soon))})
	}
	if never := Compare(r.cfg.Settings(live), r.cfg.Settings(next)); len(never) > 0 {
		out = append(out, Problem{NeedsRestart, keys(never), fmt.Sprintf("%s differs from what is in force, and only "+
			"a restart of %s takes it over: %s", r.cfg.File, r.cfg.Program, named(never))})
	}
	return out
}

// maxNamed bounds how many settings a sentence names.
const maxNamed = 10

func named(ds []Difference) string {
	var words []string
	for _, d := range ds[:min(len(ds), maxNamed)] {
		words = append(words, fmt.Sprintf("%s (in force %s, in the file %s)", d.Key, shown(d.Now), shown(d.New)))
	}
	if more := len(ds) - maxNamed; more > 0 {
		words = append(words, fmt.Sprintf("%d more", more))
	}
	return strings.Join(words, "; ")
}

// keys names the settings without their values.
func keys(ds []Difference) string {
	var all []string
	for _, d := range ds[:min(len(ds), maxNamed)] {
		all = append(all, d.Key)
	}
	if more := len(ds) - maxNamed; more > 0 {
		all = append(all, fmt.Sprintf("%d more", more))
	}
	return strings.Join(all, ", ")
}

// oneLine returns the text of err with ; between its lines.
func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }
