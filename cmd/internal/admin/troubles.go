package admin

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/keysource"
	replicas "github.com/lockstep-tls/lockstep/rotation/fleet"
	"github.com/lockstep-tls/lockstep/sds"
	"github.com/lockstep-tls/lockstep/xds"
	"github.com/lockstep-tls/lockstep/xds/server"
)

// These are values of State in [api.Secret] and [api.Trouble].
const (
	stateSent     = "sent"
	stateAccepted = "accepted"
	stateProved   = "proved"
	stateWaits    = "waits for its ring"
	stateNoRing   = "no ring"
	stateAbsent   = "absent"
	stateDoubt    = "in doubt"
	stateStale    = "stale"
	stateStandIn  = "stand-in"
	stateRefused  = "refused"
	stateStuck    = "stuck"
)

const (
	maxTroubles = 20 // maxTroubles are listed.
	// ringWithin is how long a node may take for its first ring. A stream that does not say that it
	// asks for a ring may be one that a client's server name opened; Envoy ends such a stream
	// within ringWithinUnsaid.
	ringWithin       = 10 * time.Second
	ringWithinUnsaid = time.Minute
)

// Ledger is what this replica knows of the secrets on its streams.
type Ledger struct {
	Streams  *server.Server
	Table    *sds.Table
	Rollouts *replicas.Coordinator
	Prover   *sds.Prover
}

// trouble is an [api.Trouble] with all its nodes.
type trouble struct {
	api.Trouble
	nodes map[string]struct{}
}

type troubleKey struct{ name, state string }

// Counts sums up the troubles of this replica's nodes.
type Counts struct {
	Stuck    int // nodes that must be restarted
	Ringless int // nodes that asked for a ring and have none
	Refused  int // certificates of which some node refuses what they have now
	Doubted  int // nodes that handshakes have shown not to use their ring
	StandIns int // certificates for which some node has a stand-in
}

// Counts looks where Troubles does.
func (l Ledger) Counts(ctx context.Context, now time.Time) (c Counts) {
	stuck, ringless := map[string]struct{}{}, map[string]struct{}{}
	for k, t := range l.gather(ctx, now) {
		switch k.state {
		case stateStuck:
			maps.Copy(stuck, t.nodes)
			c.Refused++
		case stateNoRing:
			maps.Copy(ringless, t.nodes)
		case stateRefused:
			c.Refused++
		case stateStandIn:
			c.StandIns++
		}
	}
	for _, e := range l.Prover.All() {
		if e.Doubt {
			c.Doubted++
		}
	}
	for _, scope := range l.Rollouts.Scopes() {
		st, err := l.Rollouts.Status(scope)
		if err != nil {
			continue
		}
		for _, m := range st.Members {
			if m.Stuck && m.Stream != 0 {
				stuck[m.Node] = struct{}{}
			}
		}
	}
	c.Stuck, c.Ringless = len(stuck), len(ringless)
	return c
}

// Troubles are those of this replica's nodes, the worst first. Behind them is what handshakes have
// proved.
func (l Ledger) Troubles(ctx context.Context, now time.Time) []api.Trouble {
	all := l.gather(ctx, now)
	out := make([]api.Trouble, 0, len(all))
	for _, t := range all {
		t.Nodes = len(t.nodes)
		out = append(out, t.Trouble)
	}
	slices.SortFunc(out, byTrouble)
	return out
}

// gather looks at the names that may be in trouble on each stream, and at no others.
func (l Ledger) gather(ctx context.Context, now time.Time) map[troubleKey]*trouble {
	all := map[troubleKey]*trouble{}
	note := func(node, name, state, words string, since time.Time) {
		k := troubleKey{name, state}
		t := all[k]
		if t == nil {
			t = &trouble{api.Trouble{Name: name, State: state, Since: since}, map[string]struct{}{}}
			all[k] = t
		}
		t.nodes[node] = struct{}{}
		if t.Node == "" || node < t.Node {
			t.Node, t.Words = node, words
		}
		if since.Before(t.Since) {
			t.Since = since
		}
	}
	for _, e := range l.Prover.All() {
		for name, version := range e.Rings {
			switch scope, _ := keysource.RingScope(name); {
			case e.Doubt:
				note(e.Node, name, stateDoubt, e.Words, e.At)
			case e.Proved && version == l.Rollouts.Version(scope):
				note(e.Node, name, stateProved, e.Words, e.At)
			}
		}
	}
	names := append(l.Table.RingNames(), l.Table.Suspects()...)
	if len(names) == 0 {
		return all
	}
	for _, s := range l.Streams.Streams(ctx, server.Query{Names: names}) {
		if s.Node.ID == "" {
			continue
		}
		for _, v := range s.Names {
			if v.Type != sds.TypeURL {
				continue
			}
			if scope, ring := keysource.RingScope(v.Name); !ring {
				if state, words := certTrouble(v, now); state != "" {
					note(s.Node.ID, v.Name, state, words, sinceOf(s, v))
				}
			} else if why := l.ringless(s, v, scope, now); why != "" {
				note(s.Node.ID, v.Name, stateNoRing, why, s.Since)
			}
		}
	}
	return all
}

func byTrouble(a, b api.Trouble) int {
	return cmp.Or(badness(b.State)-badness(a.State), cmp.Compare(a.Name, b.Name))
}

// certTrouble is the worst state of a certificate on a stream; empty if there is nothing to be
// done.
func certTrouble(v server.NameView, now time.Time) (state, words string) {
	switch ref := v.Refused; {
	case ref != nil && ref.Stuck:
		return stateStuck, ref.Words
	case ref != nil && servesStandIn(v.NameState):
		return stateStandIn, ref.Words
	case ref != nil:
		return stateRefused, ref.Words
	}
	if v.State(now) == stateStandIn {
		return stateStandIn, ""
	}
	return "", ""
}

// servesStandIn reports whether a node that refused a certificate took a stand-in for it.
func servesStandIn(st server.NameState) bool {
	return st.Refused.Cured && st.Accepted == "" && st.Sent != ""
}

// ringless says why a node that asks for a ring has none. It is empty if the node has one, or if it
// is too early to say.
func (l Ledger) ringless(s server.StreamView, v server.NameView, scope string, now time.Time) string {
	if s.Node.Service != xds.SDS || v.Took() || v.Known == xds.Absent {
		return ""
	}
	within := ringWithinUnsaid
	if s.Node.Kind == xds.KindRing {
		within = ringWithin
	}
	switch {
	case v.Refused != nil:
		return "refused its first ring: " + v.Refused.Words
	case now.Sub(s.Since) < within:
		return ""
	case !l.Rollouts.Has(scope):
		return fmt.Sprintf("the scope is not configured; configured are %v", l.Rollouts.Scopes())
	case v.Sent == "":
		return "was sent none: the policy does not grant it, or the store cannot be used"
	}
	return "has not answered"
}

func sinceOf(s server.StreamView, v server.NameView) time.Time {
	switch {
	case v.Refused != nil:
		return v.Refused.Since
	case !v.SentAt.IsZero():
		return v.SentAt
	}
	return s.Since // it brought it along
}

// troubles answers another replica from the last list.
func (a *admin) troubles(r *http.Request) (api.Troubles, error) {
	out := a.cfg.Problems.recent(r.Context()).troubles
	out.Replica, out.Troubles = a.cfg.Replica, list(out.Troubles)
	return out, nil
}

// here is what this replica says.
func (l Ledger) here(ctx context.Context, replica string) api.Troubles {
	now := time.Now()
	out := boundTroubles(replica, l.Troubles(ctx, now))
	out.Certificates, _ = l.Certificates(ctx, now)
	return out
}

func boundTroubles(replica string, all []api.Trouble) api.Troubles {
	out := api.Troubles{Replica: replica, Troubles: all, More: max(0, len(all)-maxTroubles)}
	if out.Troubles == nil {
		out.Troubles = []api.Trouble{}
	}
	out.Troubles = out.Troubles[:len(all)-out.More]
	return out
}

// askForTroubles is how long a status waits for the other replicas. It leaves out what silent ones
// know.
const askForTroubles = 500 * time.Millisecond

// askTroubles asks the other replicas for theirs.
func (a *admin) askTroubles(ctx context.Context) []api.Troubles {
	ctx, cancel := context.WithTimeout(ctx, askForTroubles)
	defer cancel()
	said, _ := peersSay(ctx, a, func(ctx context.Context, c *api.Client) (api.Troubles, error) {
		return c.Troubles(ctx)
	})
	return said
}

// fleetTroubles sums up here, those of this replica, and what others have said.
func (a *admin) fleetTroubles(here api.Troubles, said []api.Troubles) api.Troubles {
	here.Replica = a.cfg.Replica
	said = append(said, here)
	sum := map[troubleKey]api.Trouble{}
	heard := map[string]bool{} // two replicas' addresses may lead to one
	more := 0
	var certs api.NodeCertificates
	var stale api.StaleCertificates
	for _, one := range slices.Backward(said) {
		if heard[one.Replica] {
			continue
		}
		heard[one.Replica] = true
		more += one.More
		certs, stale = addCertificates(certs, one.Certificates), addStale(stale, one.Stale)
		for _, t := range one.Troubles {
			k := troubleKey{t.Name, t.State}
			have, ok := sum[k]
			if ok {
				t.Nodes += have.Nodes
				t.Node, t.Words = have.Node, have.Words
				if have.Since.Before(t.Since) {
					t.Since = have.Since
				}
			}
			sum[k] = t
		}
	}
	out := boundTroubles(a.cfg.Replica, slices.SortedFunc(maps.Values(sum), byTrouble))
	out.More += more
	out.Certificates, out.Stale = certs, stale
	out.Of = slices.Sorted(maps.Keys(heard))
	return out
}
