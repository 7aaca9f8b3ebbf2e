package daemon

import (
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/admin"
	"github.com/lockstep-tls/lockstep/cmd/internal/config"
	"github.com/lockstep-tls/lockstep/cmd/internal/failpoint"
	"github.com/lockstep-tls/lockstep/cmd/internal/recorder"
	"github.com/lockstep-tls/lockstep/cmd/internal/version"
	"github.com/lockstep-tls/lockstep/events"
	"github.com/lockstep-tls/lockstep/events/journal"
	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/rotation"
)

// openRecord opens the record of what happens, and what writes it.
func (d *Daemon) openRecord() (err error) {
	if d.events, err = journal.Open(journal.Config{Dir: d.data.File("events")}); err != nil {
		return err
	}
	d.rec = recorder.New(recorder.Config{
		Replica: d.data.Replica, Journal: d.events, Bus: d.bus, Watch: d.hub.Tell, Log: d.log,
	})
	return nil
}

// recordStart records what this replica is.
func (d *Daemon) recordStart() {
	d.rec.Publish(events.Event{Kind: events.ReplicaStarted, Name: d.data.Replica, Version: version.Get().Version,
		Text: "this replica has started, version " + version.Get().Version})
	d.noteSettings(d.cfg)
}

func (d *Daemon) noteSettings(c config.Config) {
	d.rec.Settings(d.data.File("settings.mark"), c.Digests([]byte(d.data.Token)))
}

func (d *Daemon) closeRecord() {
	if d.rec != nil {
		d.rec.Close()
	}
	if d.events != nil {
		d.events.Close()
		d.events = nil
	}
}

// tell passes on what was done to a ring.
func (d *Daemon) tell(scope string, l rotation.Line, version string) {
	failpoint.Hit(string(l.What) + "/after-wake")
	d.log.Info("ring "+string(l.What), "scope", scope, "rotation", l.Rotation, "version", version, "key", l.Key,
		"by", l.By, "why", l.Why, "nodes", l.Nodes, "took", l.Took,
		"waited_for", l.WaitedFor, "left_behind", l.LeftBehind)
	d.durations.Rotation(scope, l)
	if n := l.Behind(); n > 0 {
		d.log.Error("a rotation went on without nodes that did not accept it: tickets may be refused there",
			"scope", scope, "count", n, "nodes", l.LeftBehind)
		d.seen.LeftBehind(scope, n)
	}
	line := admin.LineOf(scope, l)
	e := events.Event{
		Kind: events.Rotation, Scope: scope, Name: keysource.RingName(scope), Version: version, Phase: string(l.What),
		Rotation: l.Rotation, Why: l.Why, By: l.By, At: l.At, Audit: d.rolls.Audit(scope), Text: admin.Words(line),
	}
	line.Kind, line.Name, line.Text = string(e.Kind), e.Name, e.Text
	line.Version, line.Replica = version, d.data.Replica
	d.rec.Record(recorder.Entry{Event: e, Line: &line, Logged: true})
}

// tellOfNode tells the other replicas what they may have to offer a node again; see
// [sds.HealerConfig].
func (d *Daemon) tellOfNode(node string, cured bool) {
	kind := events.Refused
	if cured {
		kind = events.Cured
	}
	d.rec.Publish(events.Event{Kind: kind, Name: node, By: d.data.Replica, At: time.Now()})
}
