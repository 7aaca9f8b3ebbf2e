package admin

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/lds"
	"github.com/lockstep-tls/lockstep/rotation"
	"github.com/lockstep-tls/lockstep/xds/server"
)

// nodes joins two views: the rosters, which know who may hold which ring, also of those who are away; and the open streams, which know
// what was sent to them. Certificates of a list are shown only where something is wrong.
func (a *admin) nodes(r *http.Request) (out api.Nodes, err error) {
	only := r.URL.Query().Get("node")
	now := time.Now()
	keep := func(name string, st server.NameState) bool {
		_, ring := keysource.RingScope(name)
		state := st.State(now)
		return ring || only != "" || state == "refused" || state == "stale"
	}
	here := r.URL.Query().Has("here") // another replica asks
	if cert := r.URL.Query().Get("cert"); cert != "" {
		return a.holders(r.Context(), keysource.Name(cert), here), nil
	}
	v := fleet{now: now, here: here, replica: a.Replica, rows: map[string]*api.Node{}, member: map[uint64]string{}}
	for _, scope := range a.Rollouts.Scopes() {
		st, err := a.Rollouts.Status(scope)
		if err != nil {
			return out, err
		}
		v.roster(scope, st, only)
	}
	for _, s := range a.Streams.Streams(r.Context(), server.Query{Node: only, Keep: keep}) {
		v.stream(s)
	}
	out.Replica = a.Replica
	if !here {
		out.Silent = a.ask(r.Context(), &v, api.NodesQuery{Node: only})
	}
	out.Nodes = v.sorted()
	if only != "" && len(out.Nodes) == 0 && !here {
		return out, fmt.Errorf("node %q %w: it is not connected, and no scope waits for it", only, keysource.ErrNotExist)
	}
	return out, nil
}

// fleet gathers the rows.
type fleet struct {
	now     time.Time
	here    bool // only what is connected to this replica
	replica string
	rows    map[string]*api.Node
	member  map[uint64]string // row of the stream that carries a ring
}

func (f *fleet) row(name string) *api.Node {
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

func (f *fleet) roster(scope string, st rotation.Status, only string) {
	ro := st.Rollout
	for _, m := range st.Tally.Members {
		if only != "" && m.Node != only || !m.Live(st.Policy, st.Now) || f.here && m.Stream == 0 {
			continue
		}
		n := f.row(m.Name())
		n.Since = m.Since
		secret := api.Secret{Name: keysource.RingName(scope), Version: fmt.Sprintf("g%d", m.Floor), State: "accepted", At: m.Since}
		if m.Floor == ro.Generation {
			secret.Version = ro.Ring().Version()
		} else {
			secret.State = "stale"
		}
		if refusal, ok := ro.Refusers[m.Name()]; ok { // it may have accepted the ring that came after the new key was taken back
			worse(n, "refusing")
			secret.Refused = refusal.Words
		}
		if m.Refused != 0 {
			worse(n, "refusing")
			secret.State, secret.Refused = "refused", m.Words
		}
		if !m.Connected {
			worse(n, "away")
		}
		if st.Now.Before(ro.Excluded[m.Node]) {
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
	n := f.row(name)
	n.Replica, n.Identity, n.Remote = f.replica, s.Node.Identity, s.Node.Remote
	if n.Since.IsZero() {
		n.Since = s.Since
	}
	for _, v := range s.Names {
		secret := api.Secret{Name: v.Name, Version: v.Sent, State: v.State(f.now), At: v.SentAt}
		if v.Refused != nil {
			secret.Version, secret.Refused, secret.At = v.Refused.Version, v.Refused.Words, v.Refused.Since
		}
		if _, ring := keysource.RingScope(v.Name); ring {
			if member { // else this stream wanted a certificate of that name: nothing of record
				merge(n, secret)
			}
			continue
		}
		if secret.State == "" {
			continue
		}
		if secret.State == "refused" {
			worse(n, "refusing")
		}
		if v.Type == lds.TypeURL {
			n.Listeners = append(n.Listeners, secret)
			continue
		}
		n.Secrets = append(n.Secrets, secret)
	}
}

// merge puts what the stream knows of a ring in the place of what the roster concluded; its words stay.
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
			return
		}
	}
}

func (f *fleet) sorted() []api.Node {
	out := make([]api.Node, 0, len(f.rows))
	for _, n := range f.rows {
		slices.SortFunc(n.Secrets, func(a, b api.Secret) int { return cmp.Compare(a.Name, b.Name) })
		out = append(out, *n)
	}
	slices.SortFunc(out, func(a, b api.Node) int { return cmp.Compare(a.Node, b.Node) })
	return out
}
