// Package denied says what the policy denies to nodes, as events and as problems.
package denied

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/cmd/internal/problems"
	"github.com/lockstep-tls/lockstep/cmd/internal/recorder"
	"github.com/lockstep-tls/lockstep/events"
	"github.com/lockstep-tls/lockstep/identity"
	"github.com/lockstep-tls/lockstep/identity/enforce"
	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/sds"
	"github.com/lockstep-tls/lockstep/xds/server"
)

// maxDenied bounds the problems of nodes that are turned away, and of rings that are denied.
const maxDenied = 10

// Teller returns a function that records what the policy denied to a node.
func Teller(record func(recorder.Entry)) func(enforce.Told) {
	return func(e enforce.Told) { tell(record, e) }
}

func tell(record func(recorder.Entry), e enforce.Told) {
	same := "" // clients decide which hosts a node asks for
	if _, ring := keysource.RingScope(e.Name); !ring && e.Name != "" {
		same = "hosts of " + e.Node
	}
	record(recorder.Entry{
		Same:  same,
		Event: events.Event{Kind: events.NodeDenied, Node: e.Node, Name: e.Name, Text: e.Text},
		Level: slog.LevelWarn, Logged: true,
	})
}

// Now is where [Now.Problems] looks.
type Now struct {
	Policy  *identity.Policy // Policy is nil if there is none.
	Denials *enforce.Denials
	Streams *server.Server
	// Has reports whether a scope is configured.
	Has func(scope string) bool
}

// Problems are those of nodes that the policy turns away, and of what it denies to nodes
// that are connected. A client can make a node ask for any host. So what is denied of hosts is only
// a notice.
func (d Now) Problems(now time.Time) (out []api.Problem) {
	p := d.Policy
	if p == nil {
		return nil
	}
	more := 0
	add := func(one api.Problem) {
		if len(out) < maxDenied {
			out = append(out, one)
		} else {
			more++
		}
	}
	for _, t := range d.Denials.TurnedAwayNow(now) {
		if p.AllowsNode(t.Identity, t.Node) { // the policy has changed
			continue
		}
		one := problems.New(problems.NodeDenied, t.Node, fmt.Sprintf(
			"node %s is turned away: %q may not call itself that by %s", t.Node, t.Identity, binding(p, t.Identity)))
		one.Since = t.Since
		add(one)
	}
	var hosts []string
	for _, st := range d.Streams.Streams(context.Background(), server.Query{Keep: unanswered}) {
		n := st.Node
		for _, v := range st.Names {
			if v.Type != sds.TypeURL {
				continue
			}
			scope, ring := keysource.RingScope(v.Name)
			switch name, err := keysource.CertName(v.Name); {
			case ring && d.Has(scope) && !p.AllowsScope(n.Identity, scope):
				one := problems.New(problems.NodeDenied, n.ID+" "+v.Name, fmt.Sprintf(
					"node %s asks for the ring of scope %s, which no rule of the policy grants to %q",
					n.ID, scope, n.Identity))
				one.Next = "grant the scope to that identity (scopes), or have the node ask for its own"
				add(one)
			case !ring && err == nil && !p.AllowsName(n.Identity, name):
				hosts = append(hosts, string(name)+" to "+n.ID)
			}
		}
	}
	if more > 0 {
		one := problems.New(problems.NodeDenied, "", fmt.Sprintf("the policy denies something to %d more nodes", more))
		one.Next, one.Count = "lockstep events --kind node-denied", more
		out = append(out, one)
	}
	if n := len(hosts); n > 0 {
		slices.Sort(hosts)
		one := problems.New(problems.NodeDenied, "hosts", fmt.Sprintf(
			"%d hosts that connected nodes asked for are denied by the policy: %s", n,
			strings.Join(hosts[:min(n, 3)], ", ")))
		one.Severity, one.Count = api.Notice, n
		one.Next = "lockstep explain HOST --node NODE; grant the host to the identity of that node (names) " +
			"if it is to have it"
		out = append(out, one)
	}
	return out
}

// unanswered chooses rings, and hosts that a node has not been sent.
func unanswered(name string, st server.NameState) bool {
	_, ring := keysource.RingScope(name)
	return ring || st.Sent == ""
}

// binding names the rules that say which ids an identity may use.
func binding(p *identity.Policy, who string) string {
	var rules []string
	for _, g := range p.WhoBinds(who) {
		rules = append(rules, fmt.Sprintf("rule %d of the policy (nodes: %s)", g.Rule, strings.Join(g.Nodes, ", ")))
	}
	return strings.Join(rules, " and ")
}
