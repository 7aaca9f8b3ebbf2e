package certlog

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/lockstep-tls/lockstep/audit"
	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/cmd/internal/problems"
	"github.com/lockstep-tls/lockstep/cmd/internal/recorder"
	"github.com/lockstep-tls/lockstep/events"
	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/keysource/dir"
	"github.com/lockstep-tls/lockstep/keysource/renewal"
)

const (
	// gather is how long a burst of changes may go on before it is told.
	gather = 300 * time.Millisecond
	// retry is the pause after the audit log, or the file, could not be written.
	retry = 5 * time.Second
	// auditWithin bounds one try.
	auditWithin = 10 * time.Second
	// severally is up to how many changes have a line each.
	severally = 20
	// expiryEvery is how often the ends of the certificates are looked at.
	expiryEvery = time.Minute
)

// Config of a [Log].
type Config struct {
	// File remembers the versions, and beside it the file of its name with .log behind.
	File string
	// Audit is the audit log.
	Audit Audit
	// Record passes an event on. It does not block.
	Record func(recorder.Entry)
	Log    *slog.Logger
}

// Audit is the part of [audit.Log] that is used here.
type Audit interface {
	Append(ctx context.Context, entries ...audit.Entry) (audit.Head, error)
	AppendMany(ctx context.Context, e audit.Entry, items []audit.Item) (audit.Head, error)
}

// Log tells what becomes of certificates. All methods are safe for concurrent use, but Run is
// called once.
type Log struct {
	cfg  Config
	wake chan struct{} // capacity 1

	mu      sync.Mutex
	noted   []dir.Change
	waiting int   // waiting is how many changes are not in the audit log yet.
	why     error // why is why they are not.

	known versions // Run alone changes it, and holds mu then.

	// Only Run uses the rest.
	file    file
	unsaved map[keysource.Name]struct{} // unsaved are the names that changed since the last write.
	told    map[keysource.Name]string   // told has the problem of each name that was told last.
	due     map[keysource.Name]change   // due are the changes that the audit log lacks.
}

// change is one of a certificate, as it is told.
type change struct {
	name     keysource.Name
	old, new string // They are versions. New is empty if the name is gone.
	words    string // words say more.
	first    bool   // first reports that no version of any name was ever known before.
}

// New reads the file. One that cannot be read counts as none.
func New(c Config) *Log {
	f := file{base: c.File}
	known, err := f.read()
	if err != nil {
		c.Log.Warn("which certificates the directory had is not known: all of them are told as new", "err", err)
	}
	return &Log{
		cfg: c, wake: make(chan struct{}, 1), known: known, file: f, told: map[keysource.Name]string{},
		unsaved: map[keysource.Name]struct{}{}, due: map[keysource.Name]change{},
	}
}

// Last returns what is remembered of the certificate of n; see [dir.Config].Last.
func (l *Log) Last(n keysource.Name) renewal.Last {
	l.mu.Lock()
	defer l.mu.Unlock()
	v := l.known[n]
	return renewal.Last{
		Version: v.Version, Warnings: v.Warnings, Intermediates: v.Intermediates, NotAfter: v.NotAfter,
	}
}

// know remembers the version of a name, or that the name is gone.
func (l *Log) know(name keysource.Name, v *version) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if v == nil {
		delete(l.known, name)
	} else {
		l.known[name] = *v
	}
	l.unsaved[name] = struct{}{}
}

// Note takes what a look at the directory showed. It does not block; see [dir.Config].Noted.
func (l *Log) Note(c dir.Change) {
	l.mu.Lock()
	l.noted = append(l.noted, c)
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Problems says that changes are not in the audit log. It is empty if l is nil.
func (l *Log) Problems() []api.Problem {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.why == nil || l.waiting == 0 {
		return nil
	}
	p := problems.New(problems.Unaudited, "", fmt.Sprintf(
		"%d certificates of the directory have changed, and that is not in the audit log yet; "+
			"they are served, and their lines are written once it can be: %v", l.waiting, l.why))
	p.Count = l.waiting
	return []api.Problem{p}
}

// Run tells changes until ctx ends. What it leaves on disk is then as a version before this one
// reads it, which knows of no lines behind the base: put back, it tells no change again.
func (l *Log) Run(ctx context.Context) error {
	defer l.fold()
	again := time.NewTicker(retry)
	defer again.Stop()
	expiry := time.NewTicker(expiryEvery)
	defer expiry.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-l.wake:
			select {
			case <-ctx.Done():
			case <-time.After(gather):
			}
			l.tell(l.take())
			l.tellEnds(time.Now())
		case <-again.C:
		case <-expiry.C:
			l.tellEnds(time.Now())
		}
		l.settle(ctx)
	}
}

// fold puts the lines into the base. What the audit log lacks stays out of it.
func (l *Log) fold() {
	if _, err := os.Stat(l.file.appended()); err != nil || len(l.unsaved) > 0 {
		return
	}
	if err := l.file.rewrite(l.known); err != nil {
		l.cfg.Log.Warn("which certificates the directory has is kept as a version before this one does not read it",
			"err", err)
	}
}

func (l *Log) take() []dir.Change {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := l.noted
	l.noted = nil
	return out
}

// tell passes on changes as events, and puts them on the list for the audit log.
func (l *Log) tell(noted []dir.Change) {
	var out []recorder.Entry
	var changed []change
	first := len(l.known) == 0 && !l.file.written()
	for _, c := range noted {
		if ch, e, ok := l.one(c); ok {
			out = append(out, e)
			if ch.name != "" {
				ch.first = first
				changed = append(changed, ch)
			}
		}
	}
	for _, ch := range changed {
		if before, ok := l.due[ch.name]; ok {
			ch.old, ch.first = before.old, before.first
		}
		l.due[ch.name] = ch
	}
	if len(out) > severally {
		out = summary(out, first)
	}
	for _, e := range out {
		l.cfg.Record(e)
	}
}

// one is what is told of a change. Ch has no name if the audit log gets no line.
func (l *Log) one(c dir.Change) (ch change, e recorder.Entry, ok bool) {
	name := string(c.Name)
	e = recorder.Entry{Event: events.Event{Name: name, Version: c.Version}}
	before, known := l.known[c.Name]
	switch c.What {
	case dir.Taken:
		good := l.told[c.Name] != ""
		delete(l.told, c.Name)
		now := versionOf(c)
		if known && before.Version == c.Version {
			if !good {
				return ch, e, false
			}
			e.Kind, e.Logged = events.CertTaken, true
			e.Text = fmt.Sprintf("the certificate of %s in the directory is good again, version %s", name, c.Version)
			return ch, e, true
		}
		ch = change{name: c.Name, old: before.Version, new: c.Version}
		e.Kind = events.CertTaken
		e.Text = fmt.Sprintf("the certificate of %s was taken from the directory: version %s", name, c.Version)
		if known {
			e.Text += ", before " + before.Version
			if ends := before.Context.Changes(now.Context); len(ends) > 0 {
				ch.words = "its session tickets end: " + strings.Join(ends, "; ")
			}
		}
		e.Text += fmt.Sprintf(", issued by %s, until %s", c.Certificate.Issuer,
			c.Certificate.NotAfter.UTC().Format(time.RFC3339))
		if ch.words != "" {
			e.Text += "; " + ch.words
		}
		if len(c.Certificate.Warnings) > 0 {
			e.Level = slog.LevelWarn
			e.Text += "; warning: " + strings.Join(c.Certificate.Warnings, "; ")
		}
		l.know(c.Name, &now)
	case dir.Removed:
		delete(l.told, c.Name)
		if !known {
			return ch, e, false
		}
		ch = change{name: c.Name, old: before.Version}
		e.Kind, e.Version, e.Logged = events.CertRemoved, before.Version, true
		e.Text = fmt.Sprintf("the certificate of %s has left the directory: it had version %s", name, before.Version)
		l.know(c.Name, nil)
	case dir.Refused:
		if l.told[c.Name] == c.Problem {
			return ch, e, false
		}
		l.told[c.Name] = c.Problem
		e.Kind, e.Level, e.Logged = events.CertRefused, slog.LevelWarn, true
		e.Text = fmt.Sprintf("the certificate of %s in the directory cannot be used: %s", name, c.Problem)
		e.Version = c.Kept
		if c.Kept != "" {
			e.Text += "; the last good one stays, version " + c.Kept
		} else {
			e.Text += "; no earlier one is in memory: nodes keep what they have, and one that asks now gets none " +
				"from the directory"
		}
	case dir.Held:
		e.Kind, e.Level, e.Logged = events.CertHeld, slog.LevelError, true
		e.Text = fmt.Sprintf("the certificate of %s is gone from the directory with many others, and is held back: "+
			"nodes keep it", name)
	case dir.Back:
		e.Kind, e.Logged = events.CertBack, true
		e.Text = fmt.Sprintf("the certificate of %s is in the directory again, and no longer held back", name)
	}
	return ch, e, true
}

// summary says in one line of each kind what happened to many.
func summary(all []recorder.Entry, first bool) (out []recorder.Entry) {
	byKind := map[events.Kind][]recorder.Entry{}
	for _, e := range all {
		byKind[e.Kind] = append(byKind[e.Kind], e)
	}
	for _, kind := range slices.Sorted(maps.Keys(byKind)) {
		of := byKind[kind]
		if len(of) <= severally {
			out = append(out, of...)
			continue
		}
		what := map[events.Kind]string{
			events.CertTaken:   "were taken from the directory (lockstep audit show names the line that lists them)",
			events.CertRemoved: "have left the directory (lockstep audit show names the line that lists them)",
			events.CertRefused: "in the directory cannot be used (lockstep status names them)",
			events.CertHeld:    "are gone from the directory at once, and are held back (lockstep status)",
			events.CertBack:    "are in the directory again, and no longer held back",
		}[kind]
		if first && kind == events.CertTaken {
			what = "were found in the directory for the first time"
		}
		e := of[0]
		names := make([]string, len(of))
		for i := range of {
			names[i] = of[i].Name
		}
		e.Hosts = events.HostsOf(names...)
		e.Text = fmt.Sprintf("%d certificates %s; one is %s", len(of), what, of[0].Name)
		e.Version, e.Name, e.Logged = "", "", false
		out = append(out, e)
	}
	return out
}

// settle writes what the audit log lacks, and then the file. So a change is told again after a
// crash rather than never.
func (l *Log) settle(ctx context.Context) {
	var err error
	if len(l.due) > 0 {
		err = l.audit(ctx)
		l.mu.Lock()
		before := l.why
		l.waiting, l.why = len(l.due), err
		l.mu.Unlock()
		if err != nil && before == nil && ctx.Err() == nil {
			l.cfg.Log.Error("changes of certificates in the directory cannot be written into the audit log; "+
				"they are served, and it is tried again", "count", len(l.due), "err", err)
		}
	}
	if err != nil || len(l.unsaved) == 0 {
		return
	}
	if err := l.file.write(l.known, l.unsaved); err != nil {
		l.cfg.Log.Warn("which certificates the directory has cannot be kept; trying again", "err", err)
		return
	}
	clear(l.unsaved)
}

// audit writes a line for each change, or one for all of a kind.
func (l *Log) audit(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, auditWithin)
	defer cancel()
	var some [2][]change // taken, removed
	for _, name := range slices.Sorted(maps.Keys(l.due)) {
		ch := l.due[name]
		if ch.old == ch.new { // it went and came back
			delete(l.due, name)
			continue
		}
		of := 0
		if ch.new == "" {
			of = 1
		}
		some[of] = append(some[of], ch)
	}
	for of, changes := range some {
		if err := l.auditSome(ctx, of == 1, changes); err != nil {
			return err
		}
		for _, ch := range changes {
			delete(l.due, ch.name)
		}
	}
	return nil
}

func (l *Log) auditSome(ctx context.Context, removed bool, all []change) error {
	what, why := "cert-taken", "from the directory"
	if removed {
		what, why = "cert-left", "its folder has left the directory"
	}
	if len(all) > severally {
		if all[0].first {
			why += ", for the first time"
		}
		items := make([]audit.Item, len(all))
		for i, ch := range all {
			items[i] = audit.Item{Name: string(ch.name), Key: ch.versions()}
		}
		_, err := l.cfg.Audit.AppendMany(ctx, audit.Entry{
			Actor: "lockstepd", What: strings.Replace(what, "cert-", "certs-", 1), Why: why,
		}, items)
		return err
	}
	var entries []audit.Entry
	for _, ch := range all {
		e := audit.Entry{Actor: "lockstepd", What: what, Name: string(ch.name), Key: ch.new, Why: why}
		if removed {
			e.Key = ch.old
		} else if ch.old != "" {
			e.Why += ", before " + ch.old
		}
		if ch.words != "" {
			e.Why += "; " + ch.words
		}
		entries = append(entries, e)
	}
	if len(entries) == 0 {
		return nil
	}
	_, err := l.cfg.Audit.Append(ctx, entries...)
	return err
}

// versions are the new and the old one, as a list of many has them.
func (c change) versions() string {
	switch {
	case c.new == "":
		return c.old
	case c.old == "":
		return c.new
	}
	return c.new + " before " + c.old
}
