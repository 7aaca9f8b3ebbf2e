package admin

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/internal/expiry"
	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/lds"
	"github.com/lockstep-tls/lockstep/rotation"
	replicas "github.com/lockstep-tls/lockstep/rotation/fleet"
	"github.com/lockstep-tls/lockstep/sds"
	"github.com/lockstep-tls/lockstep/xds"
	"github.com/lockstep-tls/lockstep/xds/server"
)

// nodes joins two views: the rosters, which know who may hold which ring, also of those who are
// away; and the open streams, which know what was sent to them. Certificates of a list are shown
// only where something is wrong.
func (a *admin) nodes(r *http.Request) (out api.Nodes, err error) {
	asked := r.URL.Query().Get("node")
	only := a.nodeID(r.Context(), asked)
	now := time.Now()
	keep := func(name string, st server.NameState) bool {
		_, ring := keysource.RingScope(name)
		state := st.State(now)
		return ring || only != "" || badness(state) > badness(stateSent) || isAbsent(st) && sds.NotOurs(name) != ""
	}
	out.Replica = a.cfg.Replica
	here := r.URL.Query().Has("here") // another replica asks
	if cert := r.URL.Query().Get("cert"); cert != "" {
		out.Nodes = a.holders(r.Context(), keysource.Name(cert))
		return out, nil
	}
	var said []heard
	if !here {
		said, out.Silent = a.ask(r.Context(), api.NodesQuery{Node: only})
	}
	rosters := map[string]replicas.Status{}
	for _, scope := range a.cfg.Rollouts.Scopes() {
		if rosters[scope], err = a.cfg.Rollouts.Status(scope); err != nil {
			return out, err
		}
	}
	v := a.fleet()
	v.absent.most, v.absent.policy = maxAbsent, a.cfg.Policy()
	if only != "" {
		v.absent.most = maxAbsentOfOne
	}
	v.gather(rosters, only, a.cfg.Streams.Streams(r.Context(), server.Query{Node: only, Keep: keep}), said, here)
	out.Nodes = v.sorted()
	if r.URL.Query().Has("all") {
		out.Nodes = withGone(out.Nodes, a.cfg.Gone.Gone(), only)
	}
	if asked != only {
		out.Nodes = slices.DeleteFunc(out.Nodes, func(n api.Node) bool { return n.Node != asked })
	}
	if only != "" && len(out.Nodes) == 0 && !here {
		if words := absence(a.cfg.Gone.Gone(), asked); words != "" {
			return out, &api.Error{Message: words + notAsked(out.Silent), Code: api.NotFound}
		}
		return out, fmt.Errorf("node %q %w: it is not connected, and no scope waits for it%s",
			asked, keysource.ErrNotExist, notAsked(out.Silent))
	}
	return out, nil
}

// nodeID returns the id of a node that is named by its id, or as a row of a list is.
func (a *admin) nodeID(ctx context.Context, name string) string {
	id := idOf(name)
	if id == name {
		return name
	}
	none := func(string, server.NameState) bool { return false }
	if len(a.cfg.Streams.Streams(ctx, server.Query{Node: name, Keep: none})) > 0 {
		return name
	}
	for _, scope := range a.cfg.Rollouts.Scopes() {
		if st, err := a.cfg.Rollouts.Status(scope); err == nil &&
			slices.ContainsFunc(st.Members, func(m rotation.Member) bool { return m.Node == name }) {
			return name
		}
	}
	return id
}

// idOf returns the node id of a row's name. A further stream under the same id has "#2" and so on
// behind it.
func idOf(name string) string {
	id, nr, _ := strings.Cut(name, "#")
	if n, err := strconv.Atoi(nr); err != nil || n < 2 || id == "" {
		return name
	}
	return id
}

// notAsked names the replicas that did not answer, behind a text that says what is not there.
func notAsked(silent []string) string {
	if len(silent) == 0 {
		return ""
	}
	return "; it may be connected to one that did not answer: " + strings.Join(silent, "; ")
}

// fleet gathers the rows.
type fleet struct {
	now     time.Time
	prover  *sds.Prover
	replica string
	rows    map[string]*api.Node
	ids     map[string]string // node id, by row
	member  map[uint64]string // row of the stream that carries a ring
	lacks   map[string]bool   // node ids that asked for a ring and have accepted none
	rings   map[string]bool   // node ids that have accepted one
	// loose is what streams without a ring bring, by node id. They may be at other replicas than
	// the stream with the ring.
	loose  map[string]*api.Node
	absent absent
}

func (a *admin) fleet() *fleet {
	return &fleet{
		now: time.Now(), prover: a.cfg.Prover, replica: a.cfg.Replica, rows: map[string]*api.Node{},
		ids: map[string]string{}, member: map[uint64]string{}, lacks: map[string]bool{}, rings: map[string]bool{},
		loose: map[string]*api.Node{}, absent: absent{shown: map[*api.Node]int{}},
	}
}

// badness orders the states of a secret.
func badness(state string) int {
	return slices.Index([]string{
		"", stateProved, stateAccepted, stateSent, stateWaits, stateDoubt, stateStale,
		stateAbsent, stateNoRing, stateStandIn, stateRefused, stateStuck,
	}, state)
}

// add gives n a secret. If it has it already, the worse one stays.
func add(list []api.Secret, s api.Secret) []api.Secret {
	for i := range list {
		if list[i].Name == s.Name {
			if badness(s.State) > badness(list[i].State) {
				list[i] = s
			}
			return list
		}
	}
	return append(list, s)
}

func (f *fleet) row(id, name string) *api.Node {
	f.ids[name] = id
	if f.rows[name] == nil {
		f.rows[name] = &api.Node{Node: name, State: "live", Secrets: []api.Secret{}}
	}
	return f.rows[name]
}

// worse keeps the most telling state.
func worse(n *api.Node, state string) {
	order := []string{"live", "refusing", "away", "excluded"}
	if slices.Index(order, state) > slices.Index(order, n.State) {
		n.State = state
	}
}

// gather takes what is known: the rosters by scope, the streams of this replica, and what the
// others said of theirs. Of what is connected to a replica that answered, that replica's own word
// counts. Its roster may have been read a while ago. The members that nobody has on a stream are
// away, or connected to a replica that is silent. With here only this replica's streams count.
func (f *fleet) gather(
	rosters map[string]replicas.Status, only string, streams []server.StreamView, said []heard, here bool,
) {
	for _, scope := range slices.Sorted(maps.Keys(rosters)) {
		f.roster(scope, rosters[scope], only, func(m rotation.Member) bool { return m.Stream != 0 })
	}
	for _, s := range streams {
		f.stream(s)
	}
	if here {
		return
	}
	answered := map[string]bool{}
	for _, h := range said {
		answered[h.replica] = true
		for _, n := range h.nodes {
			f.elsewhere(h.replica, n)
		}
	}
	for _, scope := range slices.Sorted(maps.Keys(rosters)) {
		ring := api.Node{Secrets: []api.Secret{{Name: keysource.RingName(scope)}}}
		seen := map[string]bool{}
		for name, n := range f.rows {
			seen[name] = shareRing(*n, ring)
		}
		f.roster(scope, rosters[scope], only, func(m rotation.Member) bool {
			return m.Stream == 0 && !seen[m.Name()] && !(m.Connected && answered[m.Replica])
		})
	}
}

// roster adds the members of a scope that keep chooses.
func (f *fleet) roster(scope string, st replicas.Status, only string, keep func(rotation.Member) bool) {
	for _, m := range st.Members {
		if only != "" && m.Node != only || !m.Live(st.Policy, st.Now) || !keep(m) {
			continue
		}
		n := f.row(m.Node, m.Name())
		n.Since = m.Since
		f.has(m)
		secret := api.Secret{
			Name: keysource.RingName(scope), Version: fmt.Sprintf("g%d", m.Floor), State: "accepted", At: m.Since,
		}
		switch {
		case m.Floor != st.Generation:
			secret.State = stateStale
		case !m.Answered:
			secret.State = stateSent
			fallthrough
		default:
			secret.Version = st.Version
		}
		if refusal, ok := st.Refusers[m.Name()]; ok {
			// it may have accepted the ring that came after the new key was taken back
			worse(n, "refusing")
			secret.Refused = refusal.Words
		}
		if m.Refused != 0 {
			worse(n, "refusing")
			secret.State, secret.Refused = stateRefused, m.Words
		}
		if m.Stuck && m.Connected {
			secret.Note = restartIt
		}
		if !m.Connected {
			worse(n, "away")
		}
		if st.Now.Before(st.Excluded[m.Node]) {
			worse(n, "excluded")
		}
		if m.Stream != 0 {
			f.member[m.Stream] = m.Name()
		}
		n.Secrets = append(n.Secrets, secret)
	}
}

func (f *fleet) stream(s server.StreamView) {
	if s.Node.ID == "" {
		return
	}
	name, member := f.member[s.Node.Stream]
	n := &api.Node{Node: s.Node.ID, State: "live", Secrets: []api.Secret{}}
	switch loose := f.loose[s.Node.ID]; {
	case member:
		n = f.row(s.Node.ID, name)
	case loose != nil:
		n = loose
	default:
		f.loose[s.Node.ID] = n
	}
	is := api.Node{Identity: s.Node.Identity, Remote: s.Node.Remote, Since: s.Since}
	if proof := proofOf(s.Node); !proof.NotAfter.IsZero() {
		is.CertificateNotAfter, is.CertificateState = proof.NotAfter, proof.State(expiry.Proof, f.now).String()
	}
	connect(n, f.replica, is)
	for _, v := range s.Names {
		secret := f.judged(s, v, secretOf(s, v, f.now))
		if isAbsent(v.NameState) && v.Type == sds.TypeURL && secret.State == "" && f.absent.takes(n) {
			secret.State, secret.Note = stateAbsent, f.absent.why(s.Node, v.Name)
		}
		if _, ring := keysource.RingScope(v.Name); ring && v.Type == sds.TypeURL {
			f.ring(n, s, v, secret, member)
			continue
		}
		if secret.State == "" {
			continue
		}
		if secret.State == stateRefused {
			worse(n, "refusing")
		}
		if v.Type == lds.TypeURL {
			n.Listeners = add(n.Listeners, secret)
			continue
		}
		n.Secrets = add(n.Secrets, secret)
	}
}

const restartIt = "nothing that is sent helps: restart this Envoy"

// secretOf is a name of a stream as it is shown.
func secretOf(s server.StreamView, v server.NameView, now time.Time) api.Secret {
	secret := api.Secret{Name: v.Name, Version: v.Sent, State: v.State(now), At: sinceOf(s, v)}
	if secret.State == stateStale && v.Sent != v.Accepted {
		secret.Version, secret.Sent = v.Accepted, v.Sent
	}
	ref := v.Refused
	switch {
	case ref == nil:
		return secret
	case ref.Stuck:
		secret.Note = restartIt
	case servesStandIn(v.NameState):
		secret.Note = "it serves a stand-in, which no client believes"
	case ref.Cured:
		secret.Note = "it serves " + v.Accepted + " in its place"
	}
	secret.Version, secret.Refused = ref.Version, ref.Words
	return secret
}

// judged adds what handshakes with the node showed, if it has accepted the secret.
func (f *fleet) judged(s server.StreamView, v server.NameView, secret api.Secret) api.Secret {
	e, known := f.prover.Evidence(s.Node.ID)
	if !known || secret.State != stateAccepted || v.Type != sds.TypeURL {
		return secret
	}
	_, ring := keysource.RingScope(v.Name)
	switch {
	case ring && !e.Holds(v.Name, v.Accepted): // it has accepted another since
		return secret
	case !ring:
		n, err := keysource.CertificateName(v.Name)
		if _, tried := slices.BinarySearch(e.Hosts, string(n)); err != nil ||
			!tried || !e.Proved || e.At.Before(v.SentAt) {
			return secret
		}
	case e.Doubt:
		secret.State = stateDoubt
	}
	secret.Note, secret.At = e.Words, e.At
	if e.Proved {
		secret.State = stateProved
	}
	return secret
}

// ring takes a ring on a stream. A stream that is no member's, and does not say that it asks for a
// ring, wanted a certificate of that name.
func (f *fleet) ring(n *api.Node, s server.StreamView, v server.NameView, secret api.Secret, member bool) {
	if !member && s.Node.Kind != xds.KindRing || s.Node.Service != xds.SDS {
		return
	}
	if v.Took() {
		f.rings[s.Node.ID] = true
	} else {
		f.lacks[s.Node.ID] = true
	}
	if member {
		merge(n, secret)
		return
	}
	if v.Took() { // a policy took it off the roster
		return
	}
	if secret.State == "" {
		secret.State = stateNoRing
	}
	n.Secrets = add(n.Secrets, secret)
}

// has notes what the roster knows of a node's ring.
func (f *fleet) has(m rotation.Member) {
	switch {
	case !m.Connected:
	case !m.Answered:
		f.lacks[m.Node] = true
	case m.Stream == 0 || m.Refused == 0:
		// a first refusal makes a member of a node, too; its stream knows
		f.rings[m.Node] = true
	}
}

// merge puts what the stream knows of a ring in the place of what the roster concluded; its words
// stay.
func merge(n *api.Node, s api.Secret) {
	for i := range n.Secrets {
		if have := &n.Secrets[i]; have.Name == s.Name {
			if s.State != "" {
				have.State, have.Version, have.Sent = s.State, s.Version, s.Sent
			}
			if s.Refused != "" {
				have.Refused = s.Refused
			}
			if !s.At.IsZero() {
				have.At = s.At
			}
			have.Note = cmp.Or(have.Note, s.Note)
			return
		}
	}
}

func (f *fleet) sorted() []api.Node {
	f.settle()
	out := make([]api.Node, 0, len(f.rows))
	for name, n := range f.rows {
		id := f.ids[name]
		for i := range n.Secrets {
			s := &n.Secrets[i]
			if _, ring := keysource.RingScope(s.Name); !ring &&
				s.State == stateAccepted && f.lacks[id] && !f.rings[id] {
				s.State, s.Note = stateWaits,
					"the node has accepted no ring: until then it resets every client of this host"
			}
		}
		slices.SortFunc(n.Secrets, func(a, b api.Secret) int { return cmp.Compare(a.Name, b.Name) })
		out = append(out, *n)
	}
	slices.SortFunc(out, func(a, b api.Node) int { return cmp.Compare(a.Node, b.Node) })
	return out
}
