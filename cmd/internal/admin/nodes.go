package admin

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
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
	only := r.URL.Query().Get("node")
	now := time.Now()
	keep := func(name string, st server.NameState) bool {
		_, ring := keysource.RingScope(name)
		state := st.State(now)
		return ring || only != "" || badness(state) > badness(stateSent)
	}
	here := r.URL.Query().Has("here") // another replica asks
	if cert := r.URL.Query().Get("cert"); cert != "" {
		return a.holders(r.Context(), keysource.Name(cert), here), nil
	}
	v := a.fleet(here)
	for _, scope := range a.cfg.Rollouts.Scopes() {
		st, err := a.cfg.Rollouts.Status(scope)
		if err != nil {
			return out, err
		}
		v.roster(scope, st, only)
	}
	for _, s := range a.cfg.Streams.Streams(r.Context(), server.Query{Node: only, Keep: keep}) {
		v.stream(s)
	}
	out.Replica = a.cfg.Replica
	if !here {
		out.Silent = a.ask(r.Context(), v, api.NodesQuery{Node: only})
	}
	out.Nodes = v.sorted()
	if only != "" && len(out.Nodes) == 0 && !here {
		return out, fmt.Errorf("node %q %w: it is not connected, and no scope waits for it",
			only, keysource.ErrNotExist)
	}
	return out, nil
}

// fleet gathers the rows.
type fleet struct {
	now     time.Time
	prover  *sds.Prover
	here    bool // only what is connected to this replica
	replica string
	rows    map[string]*api.Node
	ids     map[string]string // node id, by row
	member  map[uint64]string // row of the stream that carries a ring
	lacks   map[string]bool   // node ids that asked for a ring and have accepted none
	rings   map[string]bool   // node ids that have accepted one
}

func (a *admin) fleet(here bool) *fleet {
	return &fleet{
		now: time.Now(), prover: a.cfg.Prover, here: here, replica: a.cfg.Replica, rows: map[string]*api.Node{},
		ids: map[string]string{}, member: map[uint64]string{}, lacks: map[string]bool{}, rings: map[string]bool{},
	}
}

// badness orders the states of a secret.
func badness(state string) int {
	return slices.Index([]string{
		"", stateProved, stateAccepted, stateSent, stateWaits, stateDoubt, stateStale,
		stateNoRing, stateStandIn, stateRefused, stateStuck,
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

func (f *fleet) roster(scope string, st replicas.Status, only string) {
	for _, m := range st.Members {
		if only != "" && m.Node != only || !m.Live(st.Policy, st.Now) || f.here && m.Stream == 0 {
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
	if !member {
		name = s.Node.ID
	}
	n := f.row(s.Node.ID, name)
	n.Replica, n.Identity, n.Remote = f.replica, s.Node.Identity, s.Node.Remote
	if proof := proofOf(s.Node); !proof.NotAfter.IsZero() {
		n.CertificateNotAfter, n.CertificateState = proof.NotAfter, proof.State(expiry.Proof, f.now).String()
	}
	if n.Since.IsZero() {
		n.Since = s.Since
	}
	for _, v := range s.Names {
		secret := f.judged(s, v, secretOf(s, v, f.now))
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
				have.State, have.Version = s.State, s.Version
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
