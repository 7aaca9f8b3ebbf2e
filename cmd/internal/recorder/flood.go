package recorder

import (
	"cmp"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/lockstep-tls/lockstep/events"
)

// These bound the lines.
const (
	// ofOne is how many lines within a minute tell of the same.
	ofOne = 3
	// burst is how many lines about nodes there may be at once, and perSecond how many go on. A
	// fleet that comes back after a restart fits.
	burst     = 4000
	perSecond = 20
	// window is after which time a line says how often something happened more.
	window = time.Minute
	// missWindow is the same for what was beyond burst.
	missWindow = 10 * time.Second
	// maxCounted bounds the nodes that such a line counts.
	maxCounted = 10_000
)

// same says what counts as the same.
type same struct {
	kind       events.Kind
	node, name string
}

// sameAs is what e counts as.
func sameAs(e Entry) same {
	if e.Same != "" {
		return same{e.Kind, "", e.Same}
	}
	return same{e.Kind, e.Node, e.Name}
}

// again is how often the same happened within a window.
type again struct {
	since time.Time
	n     int
	last  Entry
}

// missed is what was beyond burst, of one kind.
type missed struct {
	n     int
	nodes map[string]struct{}
	names map[string]struct{} // names are the hosts that it was about.
	last  string
}

// host remembers what an event was about.
func (m *missed) host(e Entry) {
	if e.Name != "" && len(m.names) < maxCounted {
		m.names[e.Name] = struct{}{}
	}
}

// flood decides which entries get a line of their own.
type flood struct {
	seen     map[same]*again
	swept    time.Time
	tokens   float64
	filled   time.Time
	missed   map[events.Kind]*missed
	missFrom time.Time
}

func newFlood(now time.Time) flood {
	return flood{
		seen: map[same]*again{}, missed: map[events.Kind]*missed{}, tokens: burst, filled: now, swept: now,
	}
}

// passes reports whether e gets a line. Else it is counted.
func (f *flood) passes(e Entry, now time.Time) bool {
	if e.Kind == events.Rotation || e.Kind == events.Policy || e.Kind == events.Settings {
		return true
	}
	k := sameAs(e)
	a := f.seen[k]
	if a != nil && now.Sub(a.since) < window {
		if a.n++; a.n > ofOne {
			e.Hosts = e.Hosts.And(a.last.Hosts) // of those with one name it is the same
			a.last = e
			return false
		}
	}
	if e.Kind.Is("node") && !f.token(now) {
		f.miss(e.Kind, e.Node, 1)
		f.missed[e.Kind].host(e)
		if a != nil && now.Sub(a.since) < window {
			a.n = min(a.n, ofOne) // it was counted as missed
		}
		return false
	}
	if a == nil {
		f.seen[k] = &again{since: now, n: 1}
	}
	return true
}

func (f *flood) token(now time.Time) bool {
	f.tokens = min(burst, f.tokens+perSecond*max(0, now.Sub(f.filled).Seconds()))
	f.filled = now
	if f.tokens < 1 {
		return false
	}
	f.tokens--
	return true
}

// miss counts events that get no line of their own.
func (f *flood) miss(kind events.Kind, node string, n int) {
	if len(f.missed) == 0 {
		f.missFrom = time.Time{}
	}
	m := f.missed[kind]
	if m == nil {
		m = &missed{nodes: map[string]struct{}{}, names: map[string]struct{}{}}
		f.missed[kind] = m
	}
	m.n += n
	if node != "" && len(m.nodes) < maxCounted {
		m.nodes[node], m.last = struct{}{}, node
	}
}

// due returns the lines that say how often something happened, whose time has come.
func (f *flood) due(now time.Time) (out []Entry) {
	if now.Sub(f.swept) >= time.Second {
		f.swept = now
		for k, a := range f.seen {
			if now.Sub(a.since) < window {
				continue
			}
			delete(f.seen, k)
			if a.n > ofOne {
				out = append(out, f.more(a, now))
			}
		}
		slices.SortFunc(out, func(a, b Entry) int {
			return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.Name, b.Name))
		})
	}
	if len(f.missed) == 0 {
		return out
	}
	if f.missFrom.IsZero() {
		f.missFrom = now
	}
	if now.Sub(f.missFrom) < missWindow {
		return out
	}
	for _, kind := range slices.Sorted(maps.Keys(f.missed)) {
		m := f.missed[kind]
		text := fmt.Sprintf("%s happened %d times more, too quickly for a line each", kind, m.n)
		if len(m.nodes) > 0 {
			text += fmt.Sprintf("; %d nodes, the last one %s", len(m.nodes), m.last)
		}
		out = append(out, Entry{
			Event: events.Event{
				Kind: events.Dropped, Name: string(kind), Text: text, At: now,
				Hosts: events.HostsOf(slices.Collect(maps.Keys(m.names))...),
			},
			Level: slog.LevelWarn,
		})
	}
	clear(f.missed)
	return out
}

// more says how often the same happened beyond its lines.
func (f *flood) more(a *again, now time.Time) Entry {
	e := a.last
	e.Text = fmt.Sprintf("%d times more in %s; the last: %s", a.n-ofOne, seconds(a.last.At.Sub(a.since)), e.Text)
	e.At, e.Line, e.Logged, e.Replica = now, nil, false, ""
	return e
}

func seconds(d time.Duration) time.Duration { return max(time.Second, d.Round(time.Second)) }
