package certlog

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/recorder"
	"github.com/lockstep-tls/lockstep/events"
	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/keysource/dir"
	"github.com/lockstep-tls/lockstep/keysource/renewal"
)

// versions are the certificates that the directory had, by name.
type versions map[keysource.Name]version

// version is what is remembered of a certificate.
type version struct {
	Version   string            `json:"version"`
	Context   keysource.Context `json:"context"`
	NotBefore time.Time         `json:"not_before"`
	NotAfter  time.Time         `json:"not_after"`
	// Warned is how near its end was told.
	Warned stage `json:"warned,omitempty"`
	// Warnings say what looked worse than in the certificate before, or wrong in itself.
	Warnings []string `json:"warnings,omitempty"`
	// Intermediates are the names of those that were sent with it.
	Intermediates []string `json:"intermediates,omitempty"`
}

// versionOf is what is remembered of a certificate that was taken.
func versionOf(c dir.Change) version {
	v := version{Version: c.Version, NotBefore: c.Certificate.NotBefore, NotAfter: c.Certificate.NotAfter,
		Warnings: c.Certificate.Warnings, Intermediates: renewal.Intermediates(c.Certificate)}
	// It was parsed before, so there is no error.
	if context, err := keysource.ResumptionContext(c.Certificate.Chain, c.Name); err == nil {
		v.Context = context
	}
	return v
}

// stage is how near its end a certificate is.
type stage int

const (
	far stage = iota
	near
	close
	over
)

// stageOf says how near its end a certificate is. It is near for the last 30 days, or the last
// third of a shorter life. It is close for the last day, or the last tenth.
func (v version) stageOf(now time.Time) stage {
	life, left := v.NotAfter.Sub(v.NotBefore), v.NotAfter.Sub(now)
	switch {
	case left <= 0:
		return over
	case left < min(24*time.Hour, life/10):
		return close
	case left < min(30*24*time.Hour, life/3):
		return near
	}
	return far
}

// tellEnds tells which certificates are near their end. Each is told once at each stage.
func (l *Log) tellEnds(now time.Time) {
	var out []recorder.Entry
	for _, name := range slices.Sorted(maps.Keys(l.known)) {
		v := l.known[name]
		at := v.stageOf(now)
		if at <= v.Warned {
			continue
		}
		v.Warned = at
		l.know(name, &v)
		text := fmt.Sprintf("the certificate of %s in the directory expires at %s", name,
			v.NotAfter.UTC().Format(time.RFC3339))
		if at == over {
			text = fmt.Sprintf("the certificate of %s in the directory expired at %s", name,
				v.NotAfter.UTC().Format(time.RFC3339))
		}
		out = append(out, recorder.Entry{Level: slog.LevelWarn, Event: events.Event{
			Kind: events.CertExpiring, Name: string(name), Version: v.Version, Text: text + ": put a renewed one there",
		}})
	}
	if more := len(out) - severally; more > 0 {
		var names []string
		for _, e := range out[severally:] {
			names = append(names, e.Name)
		}
		out = append(out[:severally], recorder.Entry{Level: slog.LevelWarn, Event: events.Event{
			Kind: events.CertExpiring, Hosts: events.HostsOf(names...),
			Text: fmt.Sprintf("%d more certificates of the directory are near their end "+
				"(lockstep cert list --expires-within 30d)", more),
		}})
	}
	for _, e := range out {
		l.cfg.Record(e)
	}
}
