package admin

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/cmd/internal/presence"
	"github.com/lockstep-tls/lockstep/identity"
	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/sds"
	"github.com/lockstep-tls/lockstep/xds/server"
)

// grants says who received a ticket key or a certificate, and who may.
func (a *admin) grants(r *http.Request) (out api.Grants, err error) {
	q := api.GrantsQuery{Key: r.URL.Query().Get("key"), Cert: r.URL.Query().Get("cert")}
	here := r.URL.Query().Has("here")
	out = api.Grants{
		Replica: a.cfg.Replica, Received: []api.Received{}, May: []api.MayHave{}, Recorded: []api.GrantLine{},
		Unknown: []string{
			"nodes that went away more than 30 days ago, or were forgotten: the audit log counts nodes, " +
				"and does not name them",
			"copies that somebody made on a node",
		},
		At: time.Now().UTC(),
	}
	if (q.Key == "") == (q.Cert == "") {
		return out, &api.Error{Message: "give the ID of a key, or the name of a certificate", Code: api.Usage}
	}
	subject := a.keySubject
	if q.Cert != "" {
		subject = a.certSubject
	}
	s, err := subject(r.Context(), cmp.Or(q.Key, q.Cert))
	if err != nil {
		return out, err
	}
	out.What, out.Scope, out.Words = s.what, s.scope, s.words
	if s.holds == nil {
		out.Unknown = append(out.Unknown, "nodes that are away for less than their lease: "+
			"which certificates a node has, only the replica knows to which it is connected")
	}
	out.Received = append(out.Received, a.receivedHere(r.Context(), s)...)
	if here {
		return out, nil
	}
	said, silent := peersSay(r.Context(), a, func(ctx context.Context, c *api.Client) (api.Grants, error) {
		return c.Grants(ctx, api.GrantsQuery{Key: q.Key, Cert: q.Cert, Here: true})
	})
	out.Silent = a.unheard(silent)
	for _, g := range said {
		out.Received = append(out.Received, g.Received...)
	}
	out.Received = append(out.Received, a.receivedAway(s, out.Received)...)
	gone, unknown := receivedBefore(s, a.cfg.Gone.Gone(), out.Received, a.cfg.Policy())
	out.Received, out.Unknown = append(out.Received, gone...), append(out.Unknown, unknown...)
	slices.SortFunc(out.Received, func(x, y api.Received) int {
		return cmp.Or(cmp.Compare(x.Node, y.Node), cmp.Compare(x.Name, y.Name), cmp.Compare(x.Replica, y.Replica))
	})
	p := a.cfg.Policy()
	if out.Open = p == nil; p != nil {
		for _, g := range s.rules(p) {
			out.May = append(out.May, api.MayHave{Rule: g.Rule, Identity: g.Identity, Nodes: g.Nodes})
		}
	}
	lines, err := a.cfg.Audit.Lines(r.Context(), maxShown)
	if err != nil {
		out.Unknown = append(out.Unknown, fmt.Sprintf("what the audit log says, since it cannot be read: %v", err))
		return out, nil
	}
	for _, l := range lines { // a certificate has no scope
		if l.KeyID == s.what || l.Name == s.what && s.scope == "" {
			out.Recorded = append(out.Recorded, api.GrantLine{
				Number: l.Number, At: l.At, What: l.What, Actor: l.Actor, Nodes: l.Nodes, Why: l.Why,
			})
		}
	}
	if s.absent && len(out.Silent)+len(out.Received)+len(out.Recorded) == 0 {
		return out, fmt.Errorf("certificate %s %w: no source has it, no node that is connected was sent one, and the "+
			"newest lines of the audit log do not name it (lockstep cert list)", s.what, keysource.ErrNotExist)
	}
	return out, nil
}

// subject is a key or a certificate whose receivers are asked for.
type subject struct {
	what, scope, words string
	rules              func(*identity.Policy) []identity.Granting
	// names are all resources that may carry it. They are nil if that is not known.
	names   []string
	carries func(name, version string) bool
	// holds says which rings have it. It is nil for a certificate.
	holds func(generation uint64) bool
	// last is the newest ring that has it.
	last   uint64
	absent bool // absent reports that no source has the certificate.
}

// byFingerprint returns the ID of the ticket key whose fingerprint was given, as lines of the audit
// log have it.
func (a *admin) byFingerprint(ctx context.Context, given string) (string, error) {
	if len(given) != 2*sha256.Size {
		return given, nil
	}
	lines, err := a.cfg.Audit.Lines(ctx, maxShown)
	if err != nil {
		return "", fmt.Errorf("the audit log, which knows the ID of that fingerprint, cannot be read: %w", err)
	}
	for _, l := range slices.Backward(lines) {
		if l.Key == given && l.KeyID != "" {
			return l.KeyID, nil
		}
	}
	return given, nil
}

// keySubject finds a ticket key by its ID, in the rings and in the histories.
func (a *admin) keySubject(ctx context.Context, given string) (s subject, err error) {
	id, err := a.byFingerprint(ctx, strings.ToLower(given))
	if err != nil {
		return s, err
	}
	for _, scope := range a.cfg.Rollouts.Scopes() {
		st, err := a.cfg.Rollouts.Status(scope)
		if err != nil {
			return s, err
		}
		first, last, words := uint64(0), uint64(math.MaxUint64), ""
		for _, l := range st.History {
			if l.Key == id && first == 0 {
				first = l.Generation
			}
		}
		for i, k := range st.Keys {
			switch {
			case k.ID != id:
				continue
			case i == 0:
				words = "encrypts"
			case k.MayEncrypt:
				words = "decrypts, and a live node may still encrypt with it"
			default:
				words = "decrypts"
			}
			first = k.Added
		}
		if words == "" && first == 0 {
			continue
		}
		if words == "" {
			words, last = "has left the ring", first
			for _, l := range st.History {
				if l.Generation > last && l.Key == id {
					last = l.Generation
				}
			}
		}
		ring := keysource.RingName(scope)
		s = subject{what: id, scope: scope, names: []string{ring},
			words: fmt.Sprintf("key %s of scope %s %s; rings from g%d on have it", id, scope, words, first),
			rules: func(p *identity.Policy) []identity.Granting { return p.WhoMayScope(scope) },
			holds: func(g uint64) bool { return g >= first && g <= last },
			last:  last,
		}
		s.carries = func(name, version string) bool {
			g, ok := keysource.ParseRingVersion(version)
			return ok && name == ring && s.holds(g)
		}
		return s, nil
	}
	return s, fmt.Errorf("key %q %w: no ring has it, and no history that is kept names it "+
		"(lockstep status, lockstep history and lockstep audit show have the IDs)", id, keysource.ErrNotExist)
}

// certSubject finds a certificate by its name. A node has it under that name, or under one that
// its wildcard covers.
func (a *admin) certSubject(ctx context.Context, asked string) (s subject, err error) {
	n, err := keysource.CertName(asked)
	if err != nil {
		return s, err
	}
	s = subject{what: string(n), words: fmt.Sprintf("no certificate of %s is served now", n),
		rules: func(p *identity.Policy) []identity.Granting { return p.WhoMayName(n) }}
	version := ""
	for _, src := range a.sources() {
		if c, err := src.Certificate(ctx, n); err == nil {
			version = c.Version()
			s.words = fmt.Sprintf("the certificate of %s in the %s has version %s", n, src.name, version)
			break
		}
	}
	s.absent = version == ""
	spelt := spells(n)
	s.carries = func(name, sent string) bool {
		_, ring := keysource.RingScope(name)
		return !ring && sent != "" && (sent == version || spelt(name, server.NameState{}))
	}
	return s, nil
}

// receivedHere returns the nodes that are connected to this replica and were sent it.
func (a *admin) receivedHere(ctx context.Context, s subject) (out []api.Received) {
	now := time.Now()
	keep := func(name string, st server.NameState) bool { return s.carries(name, st.Sent) }
	for _, st := range a.cfg.Streams.Streams(ctx, server.Query{Names: s.names, Keep: keep}) {
		for _, v := range st.Names {
			if v.Type != sds.TypeURL {
				continue
			}
			at := v.SentAt
			if at.IsZero() { // the node had it when it connected
				at = st.Since
			}
			out = append(out, api.Received{
				Node: st.Node.ID, Identity: st.Node.Identity, Replica: a.cfg.Replica, Name: v.Name, Version: v.Sent,
				State: v.State(now), At: at.UTC(),
			})
		}
	}
	return out
}

// receivedAway returns the nodes on the rosters of all replicas that accepted a ring with the key
// and are not among those that are known.
func (a *admin) receivedAway(s subject, known []api.Received) (out []api.Received) {
	if s.holds == nil {
		return nil
	}
	st, err := a.cfg.Rollouts.Status(s.scope)
	if err != nil {
		return nil
	}
	for _, m := range st.Members {
		if !m.Answered || !m.Live(st.Policy, st.Now) || !s.holds(m.Floor) ||
			slices.ContainsFunc(known, func(r api.Received) bool { return r.Node == m.Node }) {
			continue
		}
		state, replica := "accepted", m.Replica // it may be one that did not answer
		if !m.Connected {
			state, replica = "away", ""
		}
		out = append(out, api.Received{Node: m.Name(), Replica: replica, Name: keysource.RingName(s.scope),
			Version: fmt.Sprintf("g%d", m.Floor), State: state, At: m.Since.UTC()})
	}
	return out
}

// maxNamed bounds the nodes that a sentence names.
const maxNamed = 20

// receivedBefore returns the nodes that were here within 30 days, are away or gone, and had a ring
// with the key as their last one. Of others it says what is not known: only the last ring of each
// is kept, and none of its certificates.
func receivedBefore(
	s subject, gone []presence.Node, known []api.Received, p *identity.Policy,
) (out []api.Received, unknown []string) {
	var later []string
	for _, n := range gone {
		if n.Since.IsZero() || slices.ContainsFunc(known, func(r api.Received) bool { return r.Node == n.ID }) {
			continue
		}
		state := "away"
		if n.Gone {
			state = "gone"
		}
		named := fmt.Sprintf("%s (%s since %s)", n.ID, state, n.Since.UTC().Format(time.RFC3339))
		if s.holds == nil {
			if p == nil || p.AllowsName(n.Identity, keysource.Name(s.what)) {
				later = append(later, named)
			}
			continue
		}
		version := n.Rings[s.scope]
		switch g, ok := keysource.ParseRingVersion(version); {
		case ok && s.holds(g):
			out = append(out, api.Received{
				Node: n.ID, Identity: n.Identity, Name: keysource.RingName(s.scope), Version: version, State: state,
				At: n.Since.UTC(),
			})
		case ok && g > s.last:
			later = append(later, named)
		}
	}
	if len(later) == 0 {
		return out, nil
	}
	named := strings.Join(later[:min(len(later), maxNamed)], ", ")
	if more := len(later) - maxNamed; more > 0 {
		named += fmt.Sprintf(" and %d more", more)
	}
	if s.holds == nil {
		return out, []string{"which certificates nodes had that are not connected; these may have it: " + named}
	}
	return out, []string{"rings before the last one of nodes that are not connected; these had a later ring, and may " +
		"have had the key before: " + named}
}
