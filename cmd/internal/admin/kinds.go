package admin

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-tls/lockstep/audit"
	"github.com/lockstep-tls/lockstep/cmd/internal/advice"
	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/cmd/internal/expiring"
	"github.com/lockstep-tls/lockstep/cmd/internal/problems"
	"github.com/lockstep-tls/lockstep/rotation"
	replicas "github.com/lockstep-tls/lockstep/rotation/fleet"
	"github.com/lockstep-tls/lockstep/sds"
)

const restartThem = "restart them; lockstep nodes names all"

// problemOf says what t is, and what to do.
func problemOf(t api.Trouble) api.Problem {
	one := t.Node
	if t.Words != "" {
		one += ": " + t.Words
	}
	var p api.Problem
	switch t.State {
	case stateRefused:
		p = problems.New(problems.CertificateRefused, t.Name, fmt.Sprintf("the newest certificate of %s is refused "+
			"by %d nodes, which go on with an earlier one, if they had one; %s", t.Name, t.Nodes, one))
		p.Next = "lockstep explain " + t.Name
	case stateStandIn:
		p = problems.New(problems.StandIn, t.Name, fmt.Sprintf("%d nodes have a stand-in for %s, which no client "+
			"believes: there is no certificate that they take; %s", t.Nodes, t.Name, one))
		p.Next = "lockstep explain " + t.Name
	case stateStuck:
		p = problems.New(problems.NodeStuck, t.Name, fmt.Sprintf("%d nodes refuse %s and whatever is sent in its "+
			"place: restart this Envoy: %s", t.Nodes, t.Name, one))
		p.Next = restartThem
	case stateNoRing:
		p = problems.New(problems.NodeWithoutRing, t.Name, fmt.Sprintf("%d nodes asked for %s and have no ring: "+
			"their hosts reset every client; %s", t.Nodes, t.Name, one))
	default:
		p = problems.New(problems.NodeInDoubt, t.Name, fmt.Sprintf("%d nodes have accepted %s, and handshakes with "+
			"them show that they do not use it on every host: restart this Envoy: %s", t.Nodes, t.Name, one))
		p.Next = restartThem
	}
	p.Since, p.Count = t.Since, t.Nodes
	return p
}

// ofScope says what is not as it should be in a scope.
func ofScope(name string, st replicas.Status) (out []api.Problem) {
	add := func(code, where, text, next string) *api.Problem {
		p := problems.New(code, where, text)
		if next != "" {
			p.Next = next
		}
		out = append(out, p)
		return &out[len(out)-1]
	}
	if errors.Is(st.Err, replicas.ErrUnrecorded) {
		add(problems.RingUnrecorded, name, fmt.Sprintf("%v; what is published goes on being served", st.Err),
			advice.For(st.Err))
	} else if st.Err != nil {
		add(problems.StoreDown, name, fmt.Sprintf("scope %s: the store cannot be used, what is published goes on "+
			"being served: %v", name, st.Err), advice.For(st.Err))
	}
	for _, what := range st.Unreadable {
		roster, _, _ := strings.Cut(what, " ") // its key
		add(problems.RosterUnreadable, roster, fmt.Sprintf("scope %s: %s; rotations wait for that replica's nodes "+
			"until it has written another", name, what), "")
	}
	if st.Summed > 0 {
		add(problems.RosterFull, name, fmt.Sprintf("scope %s: %d nodes of this replica are stored as one, since a "+
			"value of the store has no room for all ids; other replicas wait for all of them together",
			name, st.Summed), "").Count = st.Summed
	}
	if now, want := st.TicketLifetime, st.Policy.TicketLifetime; now > 0 && now < want {
		add(problems.LifetimeWaits, name, fmt.Sprintf("scope %s: nodes issue tickets for %s still, and not for %s "+
			"(ticket_lifetime), until the store has the longer one", name, now, want), "")
	}
	if differ := otherLifetimes(st); differ != "" {
		add(problems.LifetimesDiffer, name, fmt.Sprintf("scope %s: ticket_lifetime is %s here, and %s: keys decrypt "+
			"for the longest of them", name, st.Policy.TicketLifetime, differ), "")
	}
	if len(st.Keys) == 0 {
		add(problems.NoRing, name, fmt.Sprintf("scope %s: no ring yet", name), "")
		return out
	}
	if len(st.Doubted) > 0 {
		p := add(problems.KeysInDoubt, name, fmt.Sprintf("scope %s: the store was put back, or lost writes: "+
			"nodes hold g%d, of which it knew nothing. A key that was burnt since its ring was made would be in use "+
			"again, among %v: if one was burnt (lockstep audit show), run lockstep burn %s; "+
			"else this ends when they have retired", name, st.Proven, st.Doubted, name), "lockstep burn "+name)
		p.Count = len(st.Doubted)
	}
	if n := st.Count.Refused; n > 0 {
		add(problems.RingRefused, name, fmt.Sprintf("scope %s: %d nodes refuse the ring", name, n), "").Count = n
	}
	stuck, example := 0, ""
	for _, m := range st.Members {
		if m.Stuck && m.Connected {
			stuck++
			example = fmt.Sprintf("%s: %s", m.Name(), m.Words)
		}
	}
	if stuck > 0 {
		add(problems.NodeStuck, name, fmt.Sprintf("scope %s: %d nodes refuse the ring, and nothing that is sent "+
			"helps: restart this Envoy: %s", name, stuck, example), restartThem).Count = stuck
	}
	for node, f := range st.Refusers {
		add(problems.KeyRefused, node+" in scope "+name, fmt.Sprintf("scope %s: %s refused the new key: %s",
			name, node, f.Words), "").Since = f.At
	}
	if age := st.Now.Sub(st.Keys[0].FirstUsed); age >= st.Policy.MaxKeyAge {
		add(problems.KeyTooOld, name, fmt.Sprintf("scope %s: the encrypting key is %s old, beyond max_key_age",
			name, age.Round(time.Second)), "").Since = st.Keys[0].FirstUsed.Add(st.Policy.MaxKeyAge)
	}
	for node, until := range st.Excluded {
		gone := ""
		if !slices.ContainsFunc(st.Members, func(m rotation.Member) bool { return m.Node == node }) {
			gone = ", and is not here any more"
		}
		add(problems.NodeExcluded, node+" in scope "+name, fmt.Sprintf("scope %s: %s is excluded until %s%s",
			name, node, until.UTC().Format(time.RFC3339), gone),
			"lockstep exclude "+node+" --scope "+name+" --for 0 takes it back")
	}
	return out
}

// ofCrowd says that n nodes get no ring of a scope.
func ofCrowd(scope string, n int) []api.Problem {
	if n == 0 {
		return nil
	}
	p := problems.New(problems.IDsCrowded, scope, fmt.Sprintf("scope %s: %d nodes get no ring for now, "+
		"since too many ids share their identity", scope, n))
	p.Count = n
	return []api.Problem{p}
}

// otherLifetimes says which other replicas have another ticket_lifetime in force.
func otherLifetimes(st replicas.Status) string {
	var out []string
	for _, replica := range slices.Sorted(maps.Keys(st.Lifetimes)) {
		if d := st.Lifetimes[replica]; replica != st.Replica && d != st.Policy.TicketLifetime {
			out = append(out, fmt.Sprintf("%s at replica %s", d, replica))
		}
	}
	return strings.Join(out, ", ")
}

// ofCertificates says what is wrong with certificates, whoever has them.
func (p *Problems) ofCertificates() (out []api.Problem) {
	add := func(code, where, text string, n int) *api.Problem {
		one := problems.New(code, where, text)
		one.Count = n
		out = append(out, one)
		return &out[len(out)-1]
	}
	held := 0
	if p.Dir != nil {
		for _, e := range p.Dir.List() {
			if e.Held {
				held++
			}
		}
	}
	if bad := expiring.Broken(p.Dir, p.Catalog); len(bad) > 0 {
		add(problems.CertificateProblem, "", fmt.Sprintf("%d certificates have a problem: %s", len(bad),
			expiring.Named(bad)), len(bad))
	}
	out = append(out, ofWorse(expiring.Worse(p.Dir, p.Catalog))...)
	if names, n := p.Ledger.Table.Failing(); n > 0 {
		add(problems.CertificateUnloaded, "", fmt.Sprintf("%d certificates cannot be loaded, "+
			"what was sent of them stays: %v", n, names), n)
	}
	out = append(out, expiring.Look(p.Dir, p.Catalog, time.Now()).Problems()...)
	out = append(out, refusedFirst(p.Ledger.Table.Refusals())...)
	if held > 0 {
		add(problems.CertificatesHeld, "", fmt.Sprintf("%d names are gone from the directory and held back: "+
			"is the volume mounted?", held), held)
	}
	return out
}

// maxWorse is how many certificates that look wrong are a problem each.
const maxWorse = 20

// ofWorse says which certificates are served and look wrong.
func ofWorse(all []expiring.Warned) (out []api.Problem) {
	for _, w := range all[:min(len(all), maxWorse)] {
		text := fmt.Sprintf("the certificate of %s (%s) is served, and looks wrong: %s", w.Name, w.Source,
			strings.Join(w.Warnings, "; "))
		out = append(out, problems.New(problems.CertificateWorse, w.Name, text))
	}
	if more := len(all) - len(out); more > 0 {
		p := problems.New(problems.CertificateWorse, "",
			fmt.Sprintf("%d more certificates are served and look wrong", more))
		p.Count = more
		out = append(out, p)
	}
	return out
}

// refusedFirst says which changed certificates were refused by the first node of a kind.
func refusedFirst(some []sds.Refusal, n int) (out []api.Problem) {
	for _, r := range some {
		p := problems.New(problems.RefusedFirst, string(r.Name)+" at "+r.Kind, fmt.Sprintf("certificate %s: %s, "+
			"the first of kind %s, refused the new one, and no other node of that kind gets it: %s",
			r.Name, r.Node, r.Kind, r.Words))
		p.Since = r.Since
		out = append(out, p)
	}
	if more := n - len(some); more > 0 {
		p := problems.New(problems.RefusedFirst, "", fmt.Sprintf(
			"%d more certificates were refused by the first node of a kind", more))
		p.Count = more
		out = append(out, p)
	}
	return out
}

// ofReplica says what is wrong with this replica's clock and with its audit log.
func (p *Problems) ofReplica() (out []api.Problem) {
	if skew, off := p.Ledger.Rollouts.Skew(); off {
		out = append(out, problems.New(problems.ClockOff, "", fmt.Sprintf("this machine's clock is %s off the "+
			"store's; rollouts are left to the other replicas until it is set", skew.Abs().Round(time.Second))))
	}
	for _, err := range p.Audit.Degraded() {
		var sink audit.SinkError
		errors.As(err, &sink)
		out = append(out, problems.As(problems.AuditSinkDown, sink.Sink, err))
	}
	return out
}

// ofSeal says what is wrong with the sealing of the store.
func (p *Problems) ofSeal() (out []api.Problem) {
	st := p.Custody.Status()
	if st.Canary != nil {
		out = append(out, problems.As(problems.CanaryDamaged, "",
			fmt.Errorf("the store's canary does not open: %w", st.Canary)))
	}
	if st.Err != nil {
		out = append(out, problems.As(problems.SealingKeyUnusable, "",
			fmt.Errorf("the sealing key cannot be looked after: %w", st.Err)))
	}
	if n := len(st.Work.Bad); n > 0 && !st.Work.Underway {
		bad := problems.New(problems.RecordsUnopenable, "",
			fmt.Sprintf("records open with no sealing key: %v", st.Work.Bad))
		bad.Count = n
		out = append(out, bad)
	}
	return out
}

// ofFrozen says that the store is frozen. It asks the store.
func (p *Problems) ofFrozen(ctx context.Context) (out []api.Problem, err error) {
	n, frozen, err := p.Vault.Raw.Frozen(ctx)
	if err == nil && frozen {
		stands := problems.New(problems.StoreFrozen, "",
			fmt.Sprintf("the store is frozen, nothing changes and no key rotates: %s", n))
		stands.Since = n.At
		out = append(out, stands)
	}
	return out, err
}
