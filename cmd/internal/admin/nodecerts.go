package admin

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/cmd/internal/problems"
	"github.com/lockstep-tls/lockstep/internal/expiry"
	"github.com/lockstep-tls/lockstep/xds"
	"github.com/lockstep-tls/lockstep/xds/server"
)

// proofOf returns when the certificate is valid that proved who a node is.
func proofOf(n xds.Node) expiry.Span {
	return expiry.Span{NotBefore: n.ValidFrom, NotAfter: n.ValidUntil}
}

// Certificates looks at the certificates of the nodes that are connected to this replica. Earliest
// is when the first of all ends. It is zero if no node has one.
func (l Ledger) Certificates(ctx context.Context, now time.Time) (c api.NodeCertificates, earliest time.Time) {
	seen := map[string]expiry.State{} // a node has several streams
	for _, s := range l.Streams.Streams(ctx, server.Query{Names: []string{}}) {
		proof := proofOf(s.Node)
		if s.Node.ID == "" || proof.NotAfter.IsZero() {
			continue
		}
		if earliest.IsZero() || proof.NotAfter.Before(earliest) {
			earliest = proof.NotAfter
		}
		state := proof.State(expiry.Proof, now)
		if state == expiry.Good {
			continue
		}
		seen[s.Node.ID] = max(seen[s.Node.ID], state)
		if c.Node == "" || proof.NotAfter.Before(c.NotAfter) {
			c.Node, c.NotAfter = s.Node.ID, proof.NotAfter
		}
	}
	var near, expired []string
	for id, state := range seen {
		if state == expiry.Expired {
			expired = append(expired, id)
		} else {
			near = append(near, id)
		}
	}
	c.Near, c.NearIDs = len(near), someIDs(slices.Values(near))
	c.Expired, c.ExpiredIDs = len(expired), someIDs(slices.Values(expired))
	return c, earliest
}

// addCertificates sums up what two replicas say.
func addCertificates(a, b api.NodeCertificates) api.NodeCertificates {
	if a.Node == "" || b.Node != "" && b.NotAfter.Before(a.NotAfter) {
		a.Node, a.NotAfter = b.Node, b.NotAfter
	}
	a.Near, a.NearIDs = sumNodes(a.Near, a.NearIDs, b.Near, b.NearIDs)
	a.Expired, a.ExpiredIDs = sumNodes(a.Expired, a.ExpiredIDs, b.Expired, b.ExpiredIDs)
	return a
}

// ofNodeCertificates says which nodes will not be able to connect.
func ofNodeCertificates(c api.NodeCertificates, now time.Time) (out []api.Problem) {
	words := expiry.Span{NotAfter: c.NotAfter}.Words(now)
	if c.Expired > 0 {
		p := problems.New(problems.NodesNearEnd, "expired", fmt.Sprintf("the own certificates of %s have "+
			"expired, and these nodes cannot connect again once their streams end; that of %s %s",
			nodesOf(c.Expired, c.ExpiredIDs), c.Node, words))
		p.Severity, p.Count = api.Critical, c.Expired
		out = append(out, p)
	}
	if c.Near > 0 {
		p := problems.New(problems.NodesNearEnd, "", fmt.Sprintf("the own certificates of %s are near "+
			"their end; the first is that of %s, which %s", nodesOf(c.Near, c.NearIDs), c.Node, words))
		p.Count = c.Near
		if c.Expired > 0 {
			p.Text = fmt.Sprintf("the own certificates of %s are near their end, besides", nodesOf(c.Near, c.NearIDs))
		}
		out = append(out, p)
	}
	return out
}
