package sds

import (
	"context"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/xds"
)

// When the certificate of a name changes, one node of each kind gets the new one first. The others of that kind keep the last one until
// that node has accepted it. So a certificate that some version of Envoy refuses costs one node of that version. A certificate that a
// name gets for the first time has no trial, since there is nothing to keep.

// Trials is the fleet's record of who goes first, which every replica sees. version is that of the content. All methods are safe for
// concurrent use.
type Trials interface {
	// Claim asks that node go first of its kind, and returns what counts: another may have been first. It may be made again, and may block.
	Claim(ctx context.Context, n keysource.Name, version, kind, node string) (keysource.Verdict, error)
	// Settle writes down how a trial that is ours ended. It may block.
	Settle(ctx context.Context, n keysource.Name, version, kind string, how keysource.Outcome, words string) error
	// Known returns what is known from memory: whether every node gets the content at once, and what became of it by kind of node.
	Known(n keysource.Name, version string) (released bool, kinds map[string]keysource.Verdict)
}

// trial is that of one certificate. All entries that show it share it: spellings, and names under a wildcard.
type trial struct {
	name    keysource.Name // under which the certificate was found
	version string         // of the content
	kinds   map[string]*attempt
	entries map[*entry]struct{}
	open    int  // attempts without an outcome
	old     bool // another content has come since: what happens to this one decides nothing any more
}

// attempt is the trial with one kind of node. The table's mutex guards what is not set at once.
type attempt struct {
	trial  *trial
	kind   string
	node   string        // that goes first; the goroutine that carries the attempt through owns it
	stream uint64        // of node, if it is one of ours
	ours   bool          // stream has been let go first
	done   chan struct{} // closed with the outcome, or when the trial is old

	outcome keysource.Outcome
	by      string // the node that decided it
	words   string
	since   time.Time
}

// trying is an entry's part in a trial: what its nodes keep until they get the new certificate.
type trying struct {
	trial  *trial
	was    *xds.Resource // nil: the entry had nothing
	behind *trying       // the trial of was, which some nodes may not have got
}

const (
	maxKindsTried = 16 // of a trial; nodes say themselves what they are
	maxBehind     = 3  // changes that some kind of node did not get
	maxAttempts   = 256
	lingerTrial   = 10 * time.Second // after its end, for names whose certificate is loaded later
)

func (tr *trial) kindOf(n xds.Node) string {
	kind := n.Agent + " " + n.Build
	if len(tr.kinds) >= maxKindsTried && tr.kinds[kind] == nil {
		return "others"
	}
	return kind
}

// gets reports whether node gets the new certificate.
func (tr *trial) gets(node xds.Node) bool {
	a := tr.kinds[tr.kindOf(node)]
	switch {
	case a == nil:
		return false
	case a.outcome == keysource.Accepted, a.outcome == keysource.Silent:
		return true
	}
	return a.ours && a.stream == node.Stream // also if it refused: what cures it is sent in its place
}

// choose returns what node gets of an entry whose certificate now is. It is nil if there is nothing to keep and the new one is not for it.
func (y *trying) choose(now *xds.Resource, node xds.Node) *xds.Resource {
	switch {
	case y == nil, y.trial.gets(node), y.was == nil && y.trial.kinds[y.trial.kindOf(node)] == nil:
		return now
	}
	return y.behind.choose(y.was, node)
}

// tryingOut returns what node gets of an entry that is on trial. The caller holds mu.
func (t *Table) tryingOut(node xds.Node, e *entry) (*xds.Resource, xds.State) {
	tr := e.trying.trial
	a := tr.kinds[tr.kindOf(node)]
	if a == nil && e.trying.was != nil {
		t.attempt(tr, node)
	}
	if r := e.trying.choose(e.res, node); r != nil {
		return r, xds.Present
	}
	if a != nil && a.outcome == keysource.Refused && t.Varies(node) { // all others' hosts wait for it when a node starts
		if r := e.placeholder(t); r != nil {
			return r, xds.Present
		}
	}
	return nil, xds.NotYet
}
