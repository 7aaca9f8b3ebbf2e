package server

import (
	"context"
	"time"

	"github.com/lockstep-tls/lockstep/xds"
)

// unanswered is how long a node may take to acknowledge before it counts as stale.
const unanswered = 10 * time.Second

// NameState is the state of one name on a stream.
type NameState struct {
	Known   xds.State // what a look-up returns now
	Current string    // the version that the node should have; empty unless Known is Present
	// the version last sent, or the one that the node says it holds; empty if none
	Sent     string
	SentAt   time.Time // zero if Sent is what the node says it holds
	Accepted string    // the version last accepted
	Refused  *Refusal  // nil unless the node refused last what it was sent
	StandIn  bool      // the resource takes the place of one that does not exist
	// InDoubt reports that it is not known whether the node uses what it accepted, or said when it
	// connected that it accepted. It was offered again in other bytes, at SentAt, and the node has
	// not accepted those.
	InDoubt bool
	Evicted bool // it was removed to make room, and the node has not unsubscribed yet
}

// Refusal is a version that the node does not take.
type Refusal struct {
	Version string
	Words   string // the reason, in the node's own words
	Since   time.Time
	Cured   bool // the node took something in its place, and has forgotten the version
	Stuck   bool // the node refused every remedy: it must be restarted
}

// State sums up n in one of these words: "refused", "stand-in" (there is no certificate that can
// be served), "stale" (not the current version, or unanswered for 10 s), "in doubt", "accepted" or
// "sent". It is empty while the node has nothing under the name and is owed nothing.
func (n NameState) State(now time.Time) string {
	switch {
	case n.Refused != nil:
		return "refused"
	case n.StandIn && n.Accepted == "":
		return "stand-in"
	case n.Known == xds.Present && n.Sent != n.Current:
		return "stale"
	case n.Sent == "":
		return ""
	case n.Sent == n.Accepted:
		return "accepted"
	case !n.SentAt.IsZero() && now.Sub(n.SentAt) >= unanswered:
		return "stale"
	case n.InDoubt:
		return "in doubt"
	}
	return "sent"
}

// Took reports whether the node has ever accepted something under the name, as far as is known,
// and still holds it.
func (n NameState) Took() bool { return n.Accepted != "" || n.InDoubt }

// NameView is one name of a stream.
type NameView struct {
	Type string // type URL
	Name string
	NameState
}

// StreamView is a stream as it was at one moment.
type StreamView struct {
	Node  xds.Node // has an empty ID before the first request
	Since time.Time
	Delta bool // false if the stream is state of the world
	Count int  // names that the node is subscribed to
	Names []NameView
	// Full lists the groups ([xds.Resource.Group]) of which the node holds as many names as it
	// may, or more.
	Full []string
}

// Query chooses what Streams returns.
type Query struct {
	Node  string   // only the streams of this node ID; empty for all
	Names []string // only these names are looked at, however many a stream has; nil for all
	// Keep chooses the names that are listed. Nil lists all. It must not block, since a stream
	// waits for it.
	Keep func(name string, st NameState) bool
}

// Streams returns each open stream, in the order in which they came. It stops when ctx ends.
func (s *Server) Streams(ctx context.Context, q Query) []StreamView {
	var views []StreamView
	for _, st := range s.all() {
		if ctx.Err() != nil {
			break
		}
		st.mu.Lock()
		if !st.ended && (q.Node == "" || st.m.node.ID == q.Node) {
			views = append(views, st.m.view(st.since, q))
		}
		st.mu.Unlock()
	}
	return views
}

// view returns what q asks of the stream.
func (m *machine) view(since time.Time, q Query) StreamView {
	v := StreamView{Node: m.node, Since: since, Delta: !m.sotw, Count: m.names}
	for name, g := range m.groups.all {
		if g.names.Len() >= m.env.grouped() {
			v.Full = append(v.Full, name)
		}
	}
	look := func(sub *subscription, e *entry) {
		st := m.state(e)
		if q.Keep == nil || q.Keep(e.name, st) {
			v.Names = append(v.Names, NameView{Type: sub.typeURL, Name: e.name, NameState: st})
		}
	}
	for _, sub := range m.subs {
		if q.Names == nil {
			for _, e := range sub.names {
				look(sub, e)
			}
			continue
		}
		for _, name := range q.Names {
			if e := sub.names[name]; e != nil {
				look(sub, e)
			}
		}
	}
	return v
}

// state returns the state of e.
func (m *machine) state(e *entry) NameState {
	st := NameState{Sent: e.sent, Accepted: e.accepted, InDoubt: e.inDoubt && !e.claimed, Evicted: e.evicted}
	if e.sentAt != 0 {
		st.SentAt = time.Unix(0, e.sentAt)
	}
	r, known := e.sub.src.Lookup(m.node, e.name)
	st.Known = known
	if e.evicted {
		st.Known = xds.NotYet // unknown until the node asks again
	} else if known == xds.Present {
		st.Current, _ = xds.Content(r.Version)
		st.StandIn = r.StandIn
	}
	if e.claimed {
		st.Sent, _ = xds.Content(e.sent)
	}
	if e.refused != nil {
		st.Refused = &Refusal{
			Version: e.refused.version, Words: e.refused.words, Since: e.refused.since,
			Cured: e.refused.stage == cured, Stuck: e.refused.stage == stuck,
		}
	}
	return st
}
