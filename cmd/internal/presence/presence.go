package presence

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/recorder"
	"github.com/lockstep-tls/lockstep/events"
	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/lds"
	"github.com/lockstep-tls/lockstep/xds"
)

// Observe says what happened on a stream in words, where it is about the node as a whole or about
// something that it refuses. The goroutines of streams call it, and it does not block.
func (r *Registry) Observe(e xds.Event) {
	came, went, since := r.tracker.observe(e)
	out := recorder.Entry{Event: events.Event{Node: e.Node.ID, At: e.At, Version: e.Version}}
	what := what(e)
	switch {
	case came:
		out.Kind = events.NodeConnected
		out.Text = "node " + e.Node.ID + " has connected to this replica" + from(e.Node)
		out.Version = ""
	case went:
		out.Kind = events.NodeAway
		out.Text = fmt.Sprintf("node %s has gone away from this replica after %s%s",
			e.Node.ID, round(time.Since(since)), reason(e.Words))
	case e.Kind == xds.Refused:
		out.Kind, out.Name, out.Level = events.NodeRefused, what.name, slog.LevelWarn
		out.Logged = what.logged
		out.Text = fmt.Sprintf("node %s refused %s, version %s: %s", e.Node.ID, what.text, e.Version, e.Words)
	case e.Kind == xds.Cured:
		out.Kind, out.Name, out.Logged = events.NodeCured, what.name, true
		out.Text = fmt.Sprintf("node %s took version %s in the place of %s, which it had refused",
			e.Node.ID, e.Version, what.text)
	case e.Kind == xds.Stuck:
		out.Kind, out.Name, out.Logged = events.NodeStuck, what.name, what.logged
		out.Level = slog.LevelError
		out.Text = fmt.Sprintf("node %s refuses %s and whatever is sent in its place: restart this Envoy: %s",
			e.Node.ID, what.text, e.Words)
	default:
		return
	}
	r.cfg.Record(out)
}

// resource is what an event of a stream is about.
type resource struct {
	name, text string
	logged     bool // logged reports that who passes the event on logs it.
}

func what(e xds.Event) resource {
	if e.Type == lds.TypeURL {
		return resource{e.Name, "the listener", true}
	}
	if _, ring := keysource.RingScope(e.Name); ring && e.Node.Service == xds.SDS {
		return resource{e.Name, "the ring " + e.Name, false}
	}
	name := e.Name
	if n, err := keysource.CertificateName(name); err == nil {
		name = string(n)
	}
	return resource{name, "the certificate of " + name, true}
}

// from says where a node comes from, and who it is.
func from(n xds.Node) string {
	s := ""
	if n.Remote != "" {
		s += " from " + n.Remote
	}
	if n.Agent != "" {
		s += fmt.Sprintf(" (%s)", join(n.Agent, n.Build))
	}
	if n.Identity != "" {
		s += " as " + n.Identity
	}
	return s
}

func join(agent, build string) string {
	if build == "" {
		return agent
	}
	return agent + " " + build
}

func reason(words string) string {
	if words == "" {
		return ""
	}
	return ": " + words
}

func round(d time.Duration) time.Duration {
	if d < time.Minute {
		return d.Round(time.Millisecond)
	}
	return d.Round(time.Second)
}
