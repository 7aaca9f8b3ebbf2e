package daemon

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/lockstep-tls/lockstep/audit"
	"github.com/lockstep-tls/lockstep/events"
	"github.com/lockstep-tls/lockstep/identity"
	"github.com/lockstep-tls/lockstep/identity/enforce"
	"github.com/lockstep-tls/lockstep/identity/transport"
	"github.com/lockstep-tls/lockstep/sds"
	"github.com/lockstep-tls/lockstep/store"
	"github.com/lockstep-tls/lockstep/xds"
)

// policyMark is the file of the data directory with the policies that counted.
const policyMark = "policy.mark"

// openPolicy reads the policy, and says what its absence means.
func (d *Daemon) openPolicy() (err error) {
	d.policy, err = enforce.New(enforce.Config{
		File: d.cfg.Policy, Scopes: slices.Sorted(maps.Keys(d.cfg.Scopes)), Refresh: d.cfg.Refresh,
		HistoryFile: d.data.File(policyMark),
		Audit:       policyLog{d}, Frozen: func(err error) bool { return errors.Is(err, store.ErrFrozen) },
		Apply: d.setPolicy, Log: d.log,
	})
	switch {
	case err != nil:
	case d.cfg.XDSOpen && !d.cfg.OpenToAll():
		d.log.Warn("xds_open has no effect: a policy, mTLS or the mode of the socket says who gets what; drop it")
	case d.cfg.OpenToAll():
		d.log.Warn("xds_open: whoever can connect gets every private key and every ticket key", "addr",
			d.cfg.XDSListen)
	}
	switch {
	case err != nil || d.cfg.Policy != "" || d.cfg.OpenToAll():
	case transport.IsSocket(d.cfg.XDSListen):
		d.log.Info("no policy: whoever may open the socket gets every secret", "addr", d.cfg.XDSListen)
	case d.mtls != nil:
		d.log.Warn("no policy: every node with a certificate of the CA gets every secret; "+
			"give --policy to say who may have what", "addr", d.cfg.XDSListen)
	default:
		d.log.Info("no policy: every process of this machine gets every secret", "addr", d.cfg.XDSListen)
	}
	return err
}

// setPolicy hands a new policy to all who go by it.
func (d *Daemon) setPolicy(p *identity.Policy) {
	d.table.SetPolicy(p)
	d.rolls.SetAllows(scopesOf(p))
	d.listeners.SetPolicy(p)
	d.xds.AdmitAnew()
	d.rec.Publish(events.Event{
		Kind: events.Policy, Name: d.cfg.Policy, Text: fmt.Sprintf("another policy is in force: %d rules", p.Rules()),
	})
}

// admit returns why a node may not connect; see [server.Config].
func (d *Daemon) admit(n xds.Node) error {
	p := d.policy.Policy()
	if p == nil || p.AllowsNode(n.Identity, n.ID) {
		return nil
	}
	return d.denials.TurnAway(enforce.Denial{Node: n.ID, Identity: n.Identity, Remote: n.Remote})
}

// granted is the policy in force. It is nil if there is none, where a nil pointer would not be.
func (d *Daemon) granted() sds.Policy {
	if p := d.policy.Policy(); p != nil {
		return p
	}
	return nil
}

// denied is what [sds.Config].Denied calls.
func (d *Daemon) denied(n xds.Node, name string) {
	d.denials.Add(enforce.Denial{Node: n.ID, Identity: n.Identity, Remote: n.Remote, Name: name})
}

// group is whom a node is counted with on the rosters. It is empty if a rule of the policy names
// its id. Else nodes of one identity may be one client under many ids, also where nobody is known.
func (d *Daemon) group(n xds.Node) string {
	if p := d.policy.Policy(); p != nil && p.NamesNode(n.Identity, n.ID) {
		return ""
	}
	sum := sha256.Sum256([]byte(n.Identity))
	return hex.EncodeToString(sum[:8])
}

// turnedAway is what the admin API knows of nodes that were turned away.
func (d *Daemon) turnedAway(node string) (identity string, at time.Time, ok bool) {
	last, ok := d.denials.LastTurnedAway(node)
	return last.Identity, last.At, ok
}

// policyLog is the audit log as package enforce sees it.
type policyLog struct{ d *Daemon }

// Record implements [enforce.Audit].
func (p policyLog) Record(ctx context.Context, l enforce.Line) error {
	_, err := p.d.audit.Append(ctx, audit.Entry{
		Actor: "lockstepd", What: "policy", Name: l.File, Key: l.Digest, Why: l.Why,
	})
	return err
}

// Newest implements [enforce.Audit].
func (p policyLog) Newest(ctx context.Context, n int) (lines []enforce.Line, seen int, whole bool, err error) {
	all, whole, err := p.d.audit.Newest(ctx, n)
	for _, l := range all {
		if l.What == "policy" && l.Replica == p.d.data.Replica {
			lines = append(lines, enforce.Line{File: l.Name, Digest: l.Key, Why: l.Why})
		}
	}
	return lines, len(all), whole, err
}
