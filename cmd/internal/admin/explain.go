package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/sds"
	"github.com/lockstep-tls/lockstep/store"
	"github.com/lockstep-tls/lockstep/xds/server"
)

// explain takes the steps of a look-up, and goes on where a look-up would end.
func (a *admin) explain(r *http.Request) (out api.Explanation, err error) {
	q := r.URL.Query()
	out = api.Explanation{
		Asked: q.Get("name"), Found: "no", Looked: []api.Looked{}, Holders: []api.Holder{}, At: time.Now().UTC(),
	}
	n, err := keysource.ServerName(out.Asked)
	if err != nil {
		out.Verdict = err.Error() + "; no certificate can be served under it"
		if why := sds.NotOurs(out.Asked); why != "" && !strings.HasPrefix(why, "no certificate") {
			out.Verdict += "; " + why
		}
		return out, nil
	}
	out.Name = string(n)
	unusable := a.lookEverywhere(r.Context(), n, &out)
	out.Chain = a.chainOf(n)
	said, silent := a.ask(r.Context(), api.NodesQuery{Cert: string(n)})
	out.Silent = a.unheard(silent)
	out.Holders = holdersOf(append(said, heard{a.cfg.Replica, a.holders(r.Context(), n)}))
	for i := range out.Holders {
		if s := &out.Holders[i].Secret; unusable != "" && (s.State == stateAccepted || s.State == stateProved) {
			s.State, s.Note = stateStale,
				"it serves an earlier certificate, since the newest cannot be used: "+unusable
		}
	}
	a.doorsOf(r.Context(), n, &out)
	return out, a.judge(r.Context(), n, q.Get("node"), q.Get("identity"), &out)
}

// lookEverywhere looks for n, then for its wildcard, in each source, in the order of sds.Table,
// which serves the first. unusable says why the newest certificate of what was found cannot be
// served. It is empty if it can.
func (a *admin) lookEverywhere(ctx context.Context, n keysource.Name, out *api.Explanation) (unusable string) {
	decided := ""
	for _, name := range []keysource.Name{n, n.Wildcard()} {
		if name == "" {
			continue
		}
		for _, src := range a.sources() {
			l := api.Looked{Name: string(name), Source: src.name}
			c, err := src.Certificate(ctx, name)
			switch {
			case errors.Is(err, keysource.ErrNotExist):
				l.Outcome = "absent"
			case decided != "":
				l.Outcome, l.Words = "shadowed", "not used: "+decided+" comes first"
				if err != nil {
					l.Words += "; and it cannot be read: " + err.Error()
				}
			case err != nil:
				l.Outcome, l.Words = "unreadable", err.Error()
				decided = fmt.Sprintf("%s in the %s", name, src.name)
				if src.name == directory ||
					errors.Is(err, keysource.ErrBadCertificate) || errors.Is(err, store.ErrSealed) {
					// else the store is away
					unusable = err.Error()
				}
				out.Found = "unknown"
				out.Verdict = fmt.Sprintf("%s could not be read, and nothing after it is tried: "+
					"a node that has the certificate keeps it, another gets none: %v", decided, err)
			default:
				l.Outcome = "used"
				decided = fmt.Sprintf("%s in the %s", name, src.name)
				cert := certOf(name, src.name, c)
				if cert.Chain = ""; time.Now().After(c.NotAfter) {
					cert.Problem = "expired at " + c.NotAfter.UTC().Format(time.RFC3339)
					l.Words = cert.Problem + "; it is served nevertheless, until it is replaced"
				} else if unusable = a.problemOf(src, name); unusable != "" {
					cert.Problem = "a newer version that cannot be used: " + unusable
					l.Words = "the last good one: " + unusable
				}
				if len(cert.Warnings) > 0 {
					words := slices.DeleteFunc([]string{l.Words}, isEmpty)
					l.Words = strings.Join(append(words, cert.Warnings...), "; ")
				}
				out.Found, out.Cert = "yes", &cert
				out.Verdict = fmt.Sprintf("%s gets the certificate of %s from the %s", n, name, src.name)
				if cert.Problem != "" {
					out.Verdict += ", which has " + cert.Problem
				}
			}
			out.Looked = append(out.Looked, l)
		}
	}
	if decided != "" {
		return unusable
	}
	if a.cfg.Doubt != nil {
		if doubt := a.cfg.Doubt(ctx, n); doubt != nil {
			out.Found, out.Verdict = "unknown",
				fmt.Sprintf("a node that has the certificate keeps it, another gets none: %v", doubt)
			return ""
		}
	}
	out.Verdict = fmt.Sprintf("%s has no certificate: neither a name nor a wildcard covers it (lockstep cert put)", n)
	if why := sds.NotOurs(out.Asked); why != "" && !strings.HasPrefix(why, "no certificate") {
		out.Verdict += "; " + why
	}
	return ""
}

func isEmpty(s string) bool { return s == "" }

// problemOf says what is wrong with the files of a name in the directory now. Their last good
// content is served.
func (a *admin) problemOf(src named, n keysource.Name) string {
	if src.name != directory {
		return ""
	}
	return a.cfg.Dir.Problem(n)
}

// judge says whether a node may have the certificate.
func (a *admin) judge(ctx context.Context, n keysource.Name, node, identity string, out *api.Explanation) error {
	turnedAway := ""
	if node != "" && identity == "" {
		var err error
		if identity, err = a.identityOf(ctx, node); err != nil {
			var at time.Time
			var ok bool
			if a.cfg.TurnedAway != nil {
				identity, at, ok = a.cfg.TurnedAway(node)
			}
			if !ok {
				return err
			}
			turnedAway = ", and was turned away at " + at.UTC().Format(time.RFC3339)
		}
	}
	if node == "" && identity == "" {
		return nil
	}
	switch p := a.cfg.Policy(); {
	case p == nil:
		return nil
	case node != "" && !p.AllowsNode(identity, node):
		out.Denied = fmt.Sprintf("node %q may not connect: %q may not call itself that by the policy%s: "+
			"give the node an id that the rules of this identity list under nodes, or list this one there",
			node, identity, turnedAway)
	case !p.AllowsName(identity, n):
		out.Denied = fmt.Sprintf("no rule of the policy grants %s to %q, who is told that it does not exist",
			n, identity)
	default:
		return nil
	}
	out.Found, out.Verdict = "no", out.Denied
	return nil
}

// identityOf finds a node that is connected, here or to another replica.
func (a *admin) identityOf(ctx context.Context, node string) (string, error) {
	node = a.nodeID(ctx, node)
	none := func(string, server.NameState) bool { return false }
	for _, s := range a.cfg.Streams.Streams(ctx, server.Query{Node: node, Keep: none}) {
		return s.Node.Identity, nil
	}
	said, silent := a.ask(ctx, api.NodesQuery{Node: node})
	for _, h := range said {
		for _, n := range h.nodes {
			return n.Identity, nil
		}
	}
	return "", fmt.Errorf("node %q %w: it is not connected (--identity asks for an identity)%s",
		node, keysource.ErrNotExist, notAsked(silent))
}

// holders returns the nodes that have asked this replica for the certificate of n, each with that
// secret alone.
func (a *admin) holders(ctx context.Context, n keysource.Name) (out []api.Node) {
	v := a.fleet()
	for _, scope := range a.cfg.Rollouts.Scopes() {
		if st, err := a.cfg.Rollouts.Status(scope); err == nil {
			for _, m := range st.Members {
				v.has(m)
			}
		}
	}
	wanted := spells(n)
	keep := func(name string, st server.NameState) bool {
		_, ring := keysource.RingScope(name)
		return ring || wanted(name, st)
	}
	for _, s := range a.cfg.Streams.Streams(ctx, server.Query{Keep: keep}) {
		if len(s.Names) > 0 {
			v.stream(s)
		}
	}
	out = []api.Node{}
	for _, node := range v.sorted() {
		node.Secrets = slices.DeleteFunc(node.Secrets,
			func(s api.Secret) bool { _, ring := keysource.RingScope(s.Name); return ring })
		if len(node.Secrets) > 0 {
			out = append(out, node)
		}
	}
	return out
}

// holdersOf lists who holds a certificate, by node. A node may ask two replicas for one name, as
// when it has just moved. Then the worse state counts.
func holdersOf(said []heard) []api.Holder {
	all := map[[2]string]api.Holder{}
	for _, h := range said {
		for _, node := range h.nodes {
			for _, s := range node.Secrets {
				k := [2]string{node.Node, s.Name}
				if have, ok := all[k]; !ok || badness(s.State) > badness(have.State) {
					all[k] = api.Holder{Node: node.Node, Identity: node.Identity, Replica: h.replica, Secret: s}
				}
			}
		}
	}
	out := slices.AppendSeq([]api.Holder{}, maps.Values(all))
	slices.SortFunc(out, func(x, y api.Holder) int {
		return cmp.Or(cmp.Compare(x.Node, y.Node), cmp.Compare(x.Name, y.Name))
	})
	return out
}

// spells matches the names that ask for n, in whatever spelling.
func spells(n keysource.Name) func(string, server.NameState) bool {
	return func(name string, _ server.NameState) bool {
		if name == string(n) {
			return true
		}
		if strings.IndexFunc(name, func(r rune) bool { return r > unicode.MaxASCII || r == ':' }) < 0 {
			// this test is cheap, and a node may have asked for 100 000 names
			return strings.EqualFold(strings.TrimSuffix(name, "."), string(n))
		}
		spelt, err := keysource.CertificateName(name)
		return err == nil && spelt == n
	}
}
