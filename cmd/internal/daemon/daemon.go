// Package daemon puts lockstepd together: it opens what the configuration names, wires the rooms to each other, and runs them.
//
//	data    dir, catalog ─▶ sds.Table ─▶ xds/server ─▶ nodes      rotation ─▶ sds.Table
//	acks    rotation ◀── observe ◀── xds/server
//	wake    NATS ─▶ rotation, catalog ─▶ sds.Table
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/lockstep-tls/lockstep/audit"
	"github.com/lockstep-tls/lockstep/cmd/internal/admin"
	"github.com/lockstep-tls/lockstep/cmd/internal/config"
	"github.com/lockstep-tls/lockstep/cmd/internal/version"
	"github.com/lockstep-tls/lockstep/events"
	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/keysource/catalog"
	"github.com/lockstep-tls/lockstep/keysource/dir"
	"github.com/lockstep-tls/lockstep/keysource/trial"
	"github.com/lockstep-tls/lockstep/lds"
	"github.com/lockstep-tls/lockstep/rotation"
	"github.com/lockstep-tls/lockstep/sds"
	"github.com/lockstep-tls/lockstep/seal/custody"
	"github.com/lockstep-tls/lockstep/store"
	"github.com/lockstep-tls/lockstep/xds"
	"github.com/lockstep-tls/lockstep/xds/server"
)

// drainWithin bounds how long a stop waits for streams and requests to end, in seconds that a supervisor's patience exceeds.
const drainWithin = 5 * time.Second

// Daemon is a lockstepd that has opened everything and started nothing.
type Daemon struct {
	cfg    config.Config
	log    *slog.Logger
	data   *dataDir
	bus    *bus
	table  *sds.Table
	certs  *catalog.Catalog
	trials *trial.Records // nil: every node gets a changed certificate at once
	dir    *dir.Dir       // nil: no --certs
	rolls  *rotation.Coordinator
	xds    *server.Server
	grpc   *grpc.Server
	up     *health.Server
	http   *http.Server
	hub    *admin.Hub
	audit  *audit.Log
	seen   *observer
	healer *sds.Healer
	prover *sds.Prover
	losses *losses // nil: the store is nobody else's

	sources   keysource.Sources // of certificates; the table's
	listeners *listeners        // nil: no listener is served

	custody *custody.Custodian
	tls     *serverTLS  // nil: plaintext
	policy  *policyFile // nil: whoever connects gets everything
	denials *denials

	settled   chan struct{}         // closed once the policy may count
	unsettled atomic.Pointer[error] // why the audit log does not say yet which policy is in force

	xdsListener, adminListener net.Listener

	self  string            // URL of the admin API for other replicas; "": on a socket
	peers http.RoundTripper // reaches theirs
}

// New opens the data directory and the listeners. The caller runs Run or Close.
func New(c config.Config, log *slog.Logger) (_ *Daemon, err error) {
	d := &Daemon{cfg: c, log: log, hub: admin.NewHub(), up: health.NewServer(), settled: make(chan struct{})}
	defer func() {
		if err != nil {
			d.Close()
		}
	}()
	if d.data, err = openDataDir(c); err != nil {
		return nil, err
	}
	d.openCustody()
	if d.bus, err = newBus(c, d.data, log); err != nil {
		return nil, err
	}
	if d.tls, err = newServerTLS(c, log); err != nil {
		return nil, err
	}
	files := d.tls
	if err = d.openPolicy(); err != nil {
		return nil, err
	}
	if d.xdsListener, err = listen(c.XDSListen); err != nil {
		return nil, fmt.Errorf("xds_listen: %w", err)
	}
	if err = d.openSocket(); err != nil {
		return nil, fmt.Errorf("xds_listen: %w", err)
	}
	if d.adminListener, err = listen(c.AdminListen); err != nil {
		return nil, fmt.Errorf("admin_listen: %w", err)
	}
	scheme := "http"
	if files != nil && !isSocket(c.AdminListen) && !config.Loopback(c.AdminListen) {
		scheme = "https"
	}
	d.self = adminURL(scheme, c.AdminListen, d.adminListener.Addr())
	d.peers = peerTransport(files)
	if err := d.wire(); err != nil {
		return nil, err
	}
	opts, creds := server.Options(), insecure.NewCredentials()
	if files != nil && !isSocket(c.XDSListen) {
		// TLS brings buffers of its own: another would only copy, and cost each node 4 KiB.
		opts, creds = append(opts, grpc.ReadBufferSize(0)), credentials.NewTLS(files.config("h2"))
	} else if isSocket(c.XDSListen) {
		creds = newSocketCredentials()
	}
	d.xdsListener, creds = server.Ordered(d.xdsListener, creds)
	d.grpc = grpc.NewServer(append(opts, grpc.Creds(creds))...)
	d.xds.RegisterADS(d.grpc)
	sds.Register(d.grpc, d.xds)
	healthv1.RegisterHealthServer(d.grpc, d.up)
	d.up.SetServingStatus("", healthv1.HealthCheckResponse_NOT_SERVING)

	d.http = &http.Server{Handler: withReflection(d.grpc, d.admin()), ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
	d.http.Protocols = new(http.Protocols)
	d.http.Protocols.SetHTTP1(true)
	d.http.Protocols.SetHTTP2(true)
	d.http.Protocols.SetUnencryptedHTTP2(true) // gRPC reflection
	if scheme == "https" {
		d.http.TLSConfig = files.config("h2", "http/1.1")
	}
	return d, d.data.writeAddr(scheme, d.adminListener.Addr())
}

// wire connects the rooms; each knows the others by the narrow interface or function that it is given here.
func (d *Daemon) wire() error {
	highest, err := openMarks(filepath.Join(d.data.path, "generations.json"), d.log)
	if err != nil {
		return err
	}
	shared := d.cfg.Store != "embedded"
	if shared {
		d.losses = newLosses(d.data.store, d.data.vault.Recreate, d.writeBack, d.log)
		d.data.store = d.losses
	}
	if err := d.openAudit(); err != nil {
		return err
	}
	d.denials.audit = d.audit.Forbidden
	if d.cfg.Certs != "" {
		d.dir = dir.New(dir.Config{
			Dir: d.cfg.Certs, Rescan: d.cfg.Refresh, Log: d.log,
			Known:      knownNames{d.data.store, d.data.replica},
			Changed:    d.changed,
			AcceptLoss: "lockstep cert rm --confirm",
		})
		d.sources = append(d.sources, d.dir)
	}
	d.certs = catalog.New(catalog.Config{
		Store: d.data.store, Refresh: d.cfg.Refresh, Log: d.log,
		Changed: d.changed,
		Before:  d.recordCert, BeforeAll: d.recordCerts,
	})
	d.sources = append(d.sources, d.certs)
	var loss rotation.Loss
	if shared {
		loss = d.losses
	}
	d.rolls = rotation.New(rotation.Config{
		Store: d.data.store, Replica: d.data.replica, Scopes: d.cfg.Scopes, Refresh: d.cfg.Refresh, Log: d.log,
		Shared: shared, Self: rotation.Peer{Admin: d.self, Alone: d.cfg.Events == "embedded"}, Marks: highest, Loss: loss, Clock: clock,
		Unsealed: d.data.vault.Unsealed,
		Wake:     func(scope string, streams []uint64) { d.table.RefreshRing(scope, streams) },
		Tell:     d.tell, Record: d.recordRollout,
	})
	table := sds.Config{Sources: d.sources, CheckComplete: d.doubt(), Rings: d.rolls, Policy: d.policy.guard(), Denied: d.denials.add, Log: d.log}
	if d.cfg.Canary > 0 {
		d.trials = trial.New(trial.Config{
			Store: d.data.store, Replica: d.data.replica, Refresh: d.cfg.Refresh, Log: d.log,
			Changed: func(names []keysource.Name) { d.table.TrialsChanged(names) },
		})
		table.Trials, table.TryFor, table.OnlyReplica = d.trials, d.cfg.Canary, !shared
		table.GiveToAll = "lockstep cert put --now"
	}
	d.table = sds.NewTable(table)
	if err := d.openListeners(); err != nil {
		return err
	}
	d.healer = sds.NewHealer(sds.HealerConfig{
		Renew: func(match func(xds.Node) bool, typeURL string, name func(string) bool) int {
			return d.xds.Renew(match, typeURL, name)
		},
		Refers: lds.TypeURL, Hopeless: d.rolls.Hopeless, Announce: d.tellOfNode,
	})
	d.prover = d.newProver()
	d.seen = &observer{
		rolls: d.rolls, healer: d.healer, table: d.table, prover: d.prover, door: newDoor(d.rolls, d.policy.now(), d.log), listeners: d.listeners, log: d.log,
	}
	d.xds = server.New(server.Config{
		Types:    d.types(),
		Observe:  d.seen.observe,
		Identity: peerIdentity,
		OnDemand: sds.TypeURL, Hold: d.cfg.NodeNames, HoldGroup: d.cfg.WildcardNames,
		Log: d.log,
	})
	return nil
}

func (d *Daemon) admin() http.Handler {
	hosts := []string{}
	if host, _, err := net.SplitHostPort(d.cfg.AdminListen); err == nil && host != "" {
		hosts = append(hosts, host)
	}
	if u, err := url.Parse(d.self); err == nil && u.Hostname() != "" {
		hosts = append(hosts, u.Hostname()) // by which the other replicas ask
	}
	return admin.New(admin.Config{
		Replica: d.data.replica, Version: version.Get().Version, Store: d.cfg.Store,
		Rollouts: d.rolls, Streams: d.xds, Table: d.table, Prover: d.prover, Catalog: d.certs, Trials: d.trials, Doubt: d.doubt(), Dir: d.dir, Hub: d.hub, Events: d.bus,
		Audit: d.audit, Witnesses: d.witnesses, Policy: d.policy.now, Listeners: d.listeners.admin(),
		PeerTransport: d.peers, ForgetLoss: func(ctx context.Context) error { return forgetLoss(ctx, d.data.store) },
		Metrics: d.metrics(), Ready: d.ready, Degraded: d.degraded, Vault: d.data.vault, Custody: d.custody, Token: d.data.token, Hosts: hosts, Log: d.log,
	})
}

// Run serves until ctx ends, then drains: nodes are told to go elsewhere, requests may end, the roster is written a last time.
func (d *Daemon) Run(ctx context.Context) error {
	defer d.Close()
	core, stop := context.WithCancel(context.WithoutCancel(ctx)) // outlives ctx while we drain
	defer stop()
	g, core := errgroup.WithContext(core)
	run := func(f func(context.Context) error) { g.Go(func() error { return f(core) }) }
	if d.dir != nil {
		run(d.dir.Run)
	}
	run(d.certs.Run)
	if d.trials != nil {
		run(d.trials.Run)
	}
	if d.losses != nil {
		run(d.losses.run)
	}
	run(d.rolls.Run)
	run(d.table.Run)
	run(d.healer.Run)
	run(d.prover.Run)
	d.listeners.run(run)
	run(func(ctx context.Context) error {
		d.settlePolicy(ctx)
		if d.policy == nil || ctx.Err() != nil {
			return nil
		}
		return d.policy.run(ctx)
	})
	run(d.audit.Run)
	run(d.custody.Run)
	run(rest)
	if d.losses != nil && onLoopback(d.self) {
		run(d.neighbours().run)
	}
	run(d.letGo)
	run(func(ctx context.Context) error { return d.bus.run(ctx, d) })
	g.Go(func() error { return d.serveAdmin() })
	g.Go(func() error { return d.serveXDS(core) })
	g.Go(func() error {
		select {
		case <-ctx.Done():
		case <-core.Done(): // one of the others failed
		}
		d.drain()
		stop()
		return nil
	})
	return g.Wait()
}

func (d *Daemon) serveAdmin() error {
	d.log.Info("admin API", "addr", d.adminListener.Addr().String())
	serve := d.http.Serve
	if d.http.TLSConfig != nil {
		serve = func(l net.Listener) error { return d.http.ServeTLS(l, "", "") }
	}
	if err := serve(d.adminListener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("admin API: %w", err)
	}
	return nil
}

// serveXDS opens the door to nodes once sources and store were read: until then a name that is not known yet must not be called absent.
func (d *Daemon) serveXDS(ctx context.Context) error {
	waits := []<-chan struct{}{d.rolls.Ready(), d.certs.Ready(), d.settled}
	if d.dir != nil {
		waits = append(waits, d.dir.Ready())
	}
	if d.trials != nil {
		waits = append(waits, d.trials.Ready())
	}
	for _, ready := range waits {
		select {
		case <-ready:
		case <-ctx.Done():
			return nil
		}
	}
	d.up.SetServingStatus("", healthv1.HealthCheckResponse_SERVING)
	d.log.Info("serving nodes", "addr", d.xdsListener.Addr().String())
	if err := d.grpc.Serve(d.xdsListener); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("xDS: %w", err)
	}
	return nil
}

func (d *Daemon) drain() {
	d.log.Info("draining")
	d.up.Shutdown()
	d.xds.Drain()
	done := make(chan struct{})
	go func() { d.grpc.GracefulStop(); close(done) }()
	ctx, cancel := context.WithTimeout(context.Background(), drainWithin)
	defer cancel()
	select {
	case <-done:
	case <-ctx.Done():
		d.grpc.Stop()
		<-done
	}
	if err := d.http.Shutdown(ctx); err != nil {
		d.http.Close()
	}
}

// Close releases what New opened. It may be called twice.
func (d *Daemon) Close() {
	for _, l := range []net.Listener{d.xdsListener, d.adminListener} {
		if l != nil {
			l.Close()
		}
	}
	if d.tls != nil {
		d.tls.close()
	}
	if d.bus != nil {
		d.bus.close()
	}
	if d.audit != nil {
		d.audit.Close()
	}
	if d.data != nil {
		d.data.close()
	}
}

// ready: what /readyz says.
func (d *Daemon) ready() error {
	check := func(ready <-chan struct{}, what string) error {
		select {
		case <-ready:
			return nil
		default:
			return errors.New(what + " was not read yet")
		}
	}
	for _, scope := range d.rolls.Scopes() {
		if st, err := d.rolls.Status(scope); err != nil || len(st.Rollout.Keys) == 0 {
			return fmt.Errorf("the ring of scope %s was not read yet", scope)
		}
	}
	if d.dir != nil {
		if err := check(d.dir.Ready(), "the directory of certificates"); err != nil {
			return err
		}
	}
	return d.policyUnsettled()
}

// degraded is what ails the daemon itself.
func (d *Daemon) degraded() (out []string) {
	if err := d.bus.down(); err != nil {
		out = append(out, fmt.Sprintf("events are down, changes reach other replicas within %s: %v", d.cfg.Refresh, err))
	}
	if err := d.policy.ill(); err != nil {
		out = append(out, fmt.Sprintf("the policy cannot be used, the last good one stays in force: %v", err))
	}
	if err := d.policyUnsettled(); err != nil {
		out = append(out, fmt.Sprintf("no node is let in: %v", err))
	}
	if err := d.policyUnwritten(); err != nil {
		out = append(out, err.Error())
	}
	if back := d.data.policyPutBack(); back != "" {
		out = append(out, back)
	}
	if skew := d.rolls.Skew(); skew.Abs() > 30*time.Second && d.cfg.Store != "embedded" {
		out = append(out, fmt.Sprintf("this machine's clock is %s off the store's; rollouts are left to the other replicas until it is set", skew.Abs().Round(time.Second)))
	}
	if d.losses != nil {
		if lost := d.losses.stands(context.Background()); lost != "" {
			out = append(out, lost)
		}
	}
	out = append(out, d.listeners.ills()...)
	out = append(out, d.sealComplaints()...)
	return append(out, d.audit.Degraded()...)
}

// tell passes on what was done to a ring: to the log, to NATS and to those who watch.
func (d *Daemon) tell(scope string, l rotation.Line, version string) {
	failpoint(string(l.What) + "/after-wake")
	d.log.Info("ring "+string(l.What), "scope", scope, "rotation", l.Rotation, "version", version, "key", l.Key, "by", l.By, "why", l.Why,
		"nodes", l.Nodes, "took", l.Took, "waited_for", l.WaitedFor, "left_behind", l.LeftBehind)
	if n := l.Behind(); n > 0 {
		d.log.Error("a rotation went on without nodes that did not accept it: tickets may be refused there", "scope", scope, "count", n, "nodes", l.LeftBehind)
		d.seen.leftBehind(scope, n)
	}
	d.bus.Publish(events.Event{Kind: events.Rotation, Scope: scope, Version: version, Phase: string(l.What), Rotation: l.Rotation, Why: l.Why, By: l.By, At: l.At,
		Audit: d.rolls.Audit(scope)})
	d.hub.Tell(admin.LineOf(scope, l))
}

// tellOfNode tells the other replicas what they may have to offer a node again; see [sds.HealerConfig].
func (d *Daemon) tellOfNode(node string, cured bool) {
	kind := events.Refused
	if cured {
		kind = events.Cured
	}
	d.bus.Publish(events.Event{Kind: kind, Name: node, By: d.data.replica, At: time.Now()})
}

// knownNames keeps the names of the directory over a restart.
type knownNames struct {
	store   store.Store
	replica string // each has a directory of its own
}
