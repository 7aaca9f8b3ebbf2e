package sds

import (
	"context"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/xds"
)

// When the certificate of a name changes, one node of each kind gets the new one first. The other
// nodes of that kind keep the last one until that node has accepted the new one. So a certificate
// that some version of Envoy refuses costs one node of that version. A certificate that is the
// first of its name has no trial, since there is nothing to keep.

// Trials is the fleet's record of who gets a changed certificate first. Every replica sees it.
// version is that of the content. All methods are safe for concurrent use.
type Trials interface {
	// Claim asks that node go first of its kind, and returns the verdict that counts: another node
	// may have been first. It may be repeated, and may block.
	Claim(ctx context.Context, n keysource.Name, version, kind, node string) (keysource.Verdict, error)
	// Settle records how a trial of this replica ended. It may block.
	Settle(ctx context.Context, n keysource.Name, version, kind string, how keysource.Outcome, words string) error
	// Known returns from memory whether every node gets the content at once, and the verdict for
	// each kind of node.
	Known(n keysource.Name, version string) (released bool, kinds map[string]keysource.Verdict)
}

// trial is the trial of one certificate. All entries that show the certificate share it: other
// spellings, and names under a wildcard.
type trial struct {
	name    keysource.Name // the name under which the certificate was found
	version string         // of the content
	kinds   map[string]*kindTrial
	entries map[*entry]struct{}
	open    int // kinds without an outcome
	// superseded reports that another content has come since. What happens to this one decides
	// nothing.
	superseded bool
}

// kindTrial is the trial with one kind of node. The table's mutex guards what is not set at once.
type kindTrial struct {
	trial *trial
	kind  string
	// node goes first. The goroutine that runs the trial owns the field.
	node   string
	stream uint64        // the stream of node, if it is of this replica
	ours   bool          // stream is sent the new certificate
	done   chan struct{} // closed with the outcome, or when the trial is superseded

	outcome keysource.Outcome
	by      string // the node that decided the outcome
	words   string
	since   time.Time
}

// pendingChange is an entry's part in a trial: what its nodes keep until they get the new
// certificate.
type pendingChange struct {
	trial    *trial
	previous *xds.Resource // nil if the entry had nothing
	// earlier is the trial of previous, which some nodes may not have got either.
	earlier *pendingChange
}

const (
	maxKindsTried   = 16  // kinds of a trial; nodes say themselves of which kind they are
	maxEarlier      = 3   // changes that are kept while some kind of node did not get them
	maxTrialsAtOnce = 256 // with one kind each
	// lingerTrial is how long an ended trial is kept, for names whose certificate is loaded later
	lingerTrial = 10 * time.Second
)

// kindOf returns the kind of n: what the node calls itself, and its version.
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
	// It gets the certificate even if it refused: the remedy is sent in its place.
	return a.ours && a.stream == node.Stream
}

// choose returns what node gets of an entry whose certificate now is. It returns nil if there is
// nothing to keep and node is not to get the new one.
func (y *pendingChange) choose(now *xds.Resource, node xds.Node) *xds.Resource {
	switch {
	case y == nil, y.trial.gets(node), y.previous == nil && y.trial.kinds[y.trial.kindOf(node)] == nil:
		return now
	}
	return y.earlier.choose(y.previous, node)
}

// lookupPending returns what node gets of an entry that is on trial. The caller holds mu.
func (t *Table) lookupPending(node xds.Node, e *entry) (*xds.Resource, xds.State) {
	tr := e.pending.trial
	a := tr.kinds[tr.kindOf(node)]
	if a == nil && e.pending.previous != nil {
		t.startKind(tr, node)
	}
	if r := e.pending.choose(e.res, node); r != nil {
		return r, xds.Present
	}
	// When a node starts, all its hosts wait for this one.
	if a != nil && a.outcome == keysource.Refused && t.Varies(node) {
		if r := e.makeStandIn(t); r != nil {
			return r, xds.Present
		}
	}
	return nil, xds.NotYet
}
