package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/lockstep-tls/lockstep/audit"
	"github.com/lockstep-tls/lockstep/cmd/internal/access"
	"github.com/lockstep-tls/lockstep/cmd/internal/admin"
	"github.com/lockstep-tls/lockstep/cmd/internal/advice"
	"github.com/lockstep-tls/lockstep/cmd/internal/bus"
	"github.com/lockstep-tls/lockstep/cmd/internal/certlog"
	"github.com/lockstep-tls/lockstep/cmd/internal/config"
	"github.com/lockstep-tls/lockstep/cmd/internal/datadir"
	"github.com/lockstep-tls/lockstep/cmd/internal/denied"
	"github.com/lockstep-tls/lockstep/cmd/internal/describe"
	"github.com/lockstep-tls/lockstep/cmd/internal/failpoint"
	"github.com/lockstep-tls/lockstep/cmd/internal/listeners"
	"github.com/lockstep-tls/lockstep/cmd/internal/live"
	"github.com/lockstep-tls/lockstep/cmd/internal/metrics"
	"github.com/lockstep-tls/lockstep/cmd/internal/observer"
	"github.com/lockstep-tls/lockstep/cmd/internal/presence"
	"github.com/lockstep-tls/lockstep/cmd/internal/recorder"
	"github.com/lockstep-tls/lockstep/cmd/internal/reload"
	"github.com/lockstep-tls/lockstep/cmd/internal/replica"
	"github.com/lockstep-tls/lockstep/cmd/internal/rest"
	"github.com/lockstep-tls/lockstep/cmd/internal/version"
	"github.com/lockstep-tls/lockstep/events"
	"github.com/lockstep-tls/lockstep/events/journal"
	"github.com/lockstep-tls/lockstep/identity/enforce"
	"github.com/lockstep-tls/lockstep/identity/transport"
	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/keysource/catalog"
	"github.com/lockstep-tls/lockstep/keysource/dir"
	"github.com/lockstep-tls/lockstep/keysource/trial"
	"github.com/lockstep-tls/lockstep/lds"
	"github.com/lockstep-tls/lockstep/rotation/fleet"
	"github.com/lockstep-tls/lockstep/sds"
	"github.com/lockstep-tls/lockstep/seal/custody"
	"github.com/lockstep-tls/lockstep/store"
	"github.com/lockstep-tls/lockstep/store/guard"
	"github.com/lockstep-tls/lockstep/xds"
	"github.com/lockstep-tls/lockstep/xds/server"
)

// drainWithin bounds how long a stop waits for streams and requests to end. A supervisor waits
// longer.
const drainWithin = 5 * time.Second

// Daemon is a lockstepd that has opened everything and started nothing.
type Daemon struct {
	cfg    config.Config
	log    *slog.Logger
	data   *datadir.Dir
	store  store.Store  // what all rooms use: the vault, with guards around it
	lossy  *guard.Lossy // nil if the store is nobody else's
	bus    *bus.Bus
	events *journal.Journal
	rec    *recorder.Recorder // everything that happened goes through it
	nodes  *presence.Registry

	certlog   *certlog.Log // nil without --certs
	table     *sds.Table
	certs     *catalog.Catalog
	trials    *trial.Records // nil if every node gets a changed certificate at once
	dir       *dir.Dir       // nil without --certs
	rolls     *fleet.Coordinator
	replicas  *replica.Registry
	xds       *server.Server
	grpc      *grpc.Server
	up        *health.Server
	http      *http.Server
	hub       *admin.Hub
	problems  *admin.Problems
	durations *metrics.Durations
	audit     *audit.Log
	seen      *observer.Observer
	healer    *sds.Healer
	prover    *sds.Prover

	sources   keysource.Sources    // of certificates; the table's
	listeners *listeners.Listeners // nil if no listener is served

	access  *access.Access
	custody *custody.Custodian
	mtls    *transport.MTLS // nil if plaintext is spoken
	failed  *transport.Failures
	policy  *enforce.Enforcer
	denials *enforce.Denials

	xdsListener, adminListener net.Listener
	metricsListener            net.Listener // nil without --metrics-listen
	metricsHTTP                *http.Server

	reload *reload.Reloader[config.Config] // reload is nil if the configuration is not read again.
	hangup <-chan os.Signal

	self  string            // URL of the admin API for other replicas; empty on a socket
	peers http.RoundTripper // reaches their admin APIs
}

// New opens the data directory and the listeners. The caller runs Run or Close.
func New(c config.Config, log *slog.Logger) (_ *Daemon, err error) {
	d := &Daemon{
		cfg: c, log: log, hub: admin.NewHub(), up: health.NewServer(), failed: transport.NewFailures(log),
		durations: metrics.NewDurations(),
	}
	defer func() {
		if err != nil {
			d.Close()
		}
	}()
	if d.data, err = datadir.Open(datadir.Config{
		Path: c.DataDir, Store: c.Store, KEK: c.KEK, KEKNew: c.KEKNew,
	}); err != nil {
		return nil, err
	}
	log.Info("data directory", "path", c.DataDir)
	d.store = guard.NewTimed(failpoint.Store(d.data.Vault), d.durations.Store)
	d.openCustody()
	d.bus, err = bus.Open(bus.Config{
		Events: c.Events, Listen: c.NATSListen, Token: d.data.NATSToken, Replica: d.data.Replica, Log: log,
	})
	if err != nil {
		return nil, err
	}
	if err = d.openRecord(); err != nil {
		return nil, err
	}
	d.mtls, err = transport.Open(transport.Config{
		Cert: c.XDSCert, Key: c.XDSKey, ClientCA: c.XDSClientCA, AdminCA: c.AdminClientCA,
		SPIFFESocket: c.SPIFFESocket,
		Federated:    c.Policy != "", Log: log,
	})
	if err != nil {
		return nil, err
	}
	if err = d.openPolicy(); err != nil {
		return nil, err
	}
	socket := transport.Socket{Mode: c.SocketMode(), Group: c.XDSSocketGroup, OwnDir: c.OwnSocketDir(), Log: log}
	if d.xdsListener, err = socket.Listen(c.XDSListen); err != nil {
		return nil, fmt.Errorf("xds_listen: %w", err)
	}
	plain := d.mtls == nil || transport.IsSocket(c.XDSListen)
	if err = d.data.WriteXDS(d.xdsListener.Addr(), !plain); err != nil {
		return nil, err
	}
	if d.adminListener, err = transport.Listen(c.AdminListen); err != nil {
		return nil, fmt.Errorf("admin_listen: %w", err)
	}
	if c.MetricsListen != "" {
		if d.metricsListener, err = transport.Listen(c.MetricsListen); err != nil {
			return nil, fmt.Errorf("metrics_listen: %w", err)
		}
	}
	scheme := "http"
	if d.mtls != nil && !transport.IsSocket(c.AdminListen) && !config.Loopback(c.AdminListen) {
		scheme = "https"
	}
	d.self = replica.URL(scheme, c.AdminListen, d.adminListener.Addr())
	d.peers = d.mtls.Peers()
	if err := d.wire(); err != nil {
		return nil, err
	}
	opts, creds := server.Options(), d.failed.Plaintext("xds", insecure.NewCredentials())
	if transport.IsSocket(c.XDSListen) {
		creds = d.failed.Plaintext("xds", transport.SocketCredentials())
	} else if d.mtls != nil {
		// TLS brings buffers of its own. Another would only copy, and cost each node 4 KiB.
		opts = append(opts, grpc.ReadBufferSize(0))
		creds = d.failed.Credentials("xds", credentials.NewTLS(d.mtls.Server("h2")))
	}
	d.xdsListener, creds = server.Ordered(d.xdsListener, creds)
	d.grpc = grpc.NewServer(append(opts, grpc.Creds(creds))...)
	d.xds.RegisterADS(d.grpc)
	sds.Register(d.grpc, d.xds)
	healthv1.RegisterHealthServer(d.grpc, d.up)
	d.up.SetServingStatus("", healthv1.HealthCheckResponse_NOT_SERVING)

	shown := d.admin()
	d.http = &http.Server{
		Handler: admin.New(shown), ReadHeaderTimeout: 10 * time.Second,
		ErrorLog: slog.NewLogLogger(d.failed.ErrorLog("admin", log.Handler()), slog.LevelDebug),
	}
	d.http.Protocols = new(http.Protocols)
	d.http.Protocols.SetHTTP1(true)
	d.http.Protocols.SetHTTP2(true)
	d.http.Protocols.SetUnencryptedHTTP2(true) // gRPC reflection
	d.metricsHTTP = &http.Server{
		Handler: admin.Public(shown), ReadHeaderTimeout: 10 * time.Second, ErrorLog: d.http.ErrorLog,
	}
	if scheme == "https" {
		d.http.TLSConfig = d.mtls.Admin("h2", "http/1.1")
	}
	return d, d.data.WriteAddr(scheme, d.adminListener.Addr())
}

// wire connects the rooms. Each knows the others by the narrow interface or function that it gets
// here.
func (d *Daemon) wire() error {
	highest, err := datadir.OpenMarks(d.data.File("generations.json"), d.log)
	if err != nil {
		return err
	}
	shared := d.cfg.Store != datadir.Embedded
	if shared {
		d.lossy = guard.NewLossy(d.store, d.writeBack, d.log)
		d.store = d.lossy
	}
	if err := d.openAudit(); err != nil {
		return err
	}
	d.access = access.New(access.Config{
		Store: d.store, Replica: d.data.Replica, Refresh: d.cfg.Refresh, Unsealed: d.data.Vault.Unsealed, Log: d.log,
	})
	d.access.Look(context.Background())
	d.denials = enforce.NewDenials(enforce.DenialsConfig{
		Log: d.log, Audit: d.audit.Forbidden, Tell: denied.Teller(d.rec.Record),
	})
	if d.cfg.Certs != "" {
		d.certlog = certlog.New(certlog.Config{
			File: d.data.File("certs.mark"), Audit: d.audit, Record: d.rec.Record, Log: d.log,
		})
		d.dir = dir.New(dir.Config{
			Dir: d.cfg.Certs, Rescan: d.cfg.Refresh, Log: d.log,
			Known:      datadir.Names{Store: d.store, Replica: d.data.Replica},
			Changed:    d.changed,
			Noted:      d.certlog.Note,
			Last:       d.certlog.Last,
			AcceptLoss: "lockstep cert rm --confirm",
		})
		d.sources = append(d.sources, d.dir)
	}
	d.certs = catalog.New(catalog.Config{
		Store: d.store, Refresh: d.cfg.Refresh, Log: d.log,
		Changed: d.changed,
		Before:  d.recordCert, BeforeAll: d.recordCerts,
	})
	d.sources = append(d.sources, d.certs)
	var lost fleet.Loss
	if shared {
		lost = d.lossy
	}
	peers := admin.Peers{Self: d.data.Replica, Transport: d.peers, Prove: d.access.Prove}
	d.rolls = fleet.New(fleet.Config{
		Store: d.store, Replica: d.data.Replica, Scopes: d.cfg.Scopes, Refresh: d.cfg.Refresh, Log: d.log,
		Shared: shared, Self: fleet.Peer{Admin: d.self, Alone: d.cfg.Events == "embedded"},
		HighestSent: highest, Loss: lost, Clock: failpoint.Clock,
		Peers: peers, Unsealed: d.data.Vault.Unsealed,
		Wake:     func(scope string, streams []uint64) { d.table.RefreshRing(scope, streams) },
		Lifetime: d.setTicketLifetime,
		Announce: d.tell, Record: d.recordRollout,
		Allows: scopesOf(d.policy.Policy()), Revoked: d.revoked, Cure: advice.DamagedRing,
	})
	d.nodes = presence.New(presence.Config{
		Store: d.store, Replica: d.data.Replica, Fleet: d.rolls, Refresh: d.cfg.Refresh, Expected: d.cfg.ExpectedNodes,
		Unsealed: d.data.Vault.Unsealed, Record: d.rec.Record, Log: d.log,
	})
	d.replicas = replica.New(replica.Config{
		Store: d.store, Replica: d.data.Replica, Version: version.Get().Version, Admin: d.self, Shared: shared,
		Refresh: d.cfg.Refresh, Fleet: d.rolls, Ask: peers, Ready: d.rolls.Ready(), Unsealed: d.data.Vault.Unsealed,
		Log: d.log,
	})
	table := sds.Config{
		Sources: d.sources, CheckComplete: d.doubt(), Rings: d.rolls, Policy: d.granted(), Denied: d.denied, Log: d.log,
	}
	if d.cfg.Canary > 0 {
		d.trials = trial.New(trial.Config{
			Store: d.store, Replica: d.data.Replica, Refresh: d.cfg.Refresh, Log: d.log,
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
	d.seen = observer.New(observer.Config{
		Rollouts: d.rolls, Healer: d.healer, Table: d.table, Prover: d.prover, Listeners: d.listeners, Nodes: d.nodes,
		Group: d.group, Took: d.durations.Observe, Log: d.log,
	})
	d.xds = server.New(server.Config{
		Types:    d.types(),
		Observe:  d.seen.Observe,
		Identity: transport.Identity, Validity: transport.Validity, Remote: remote,
		Admit:    d.admit,
		OnDemand: sds.TypeURL, Hold: d.cfg.NodeNames, HoldGroup: d.cfg.WildcardNames,
		Log: d.log,
	})
	return nil
}

// admin is what the admin address and that for metrics need.
func (d *Daemon) admin() admin.Config {
	d.problems = d.openProblems()
	hosts := []string{}
	if host, _, err := net.SplitHostPort(d.cfg.AdminListen); err == nil && host != "" {
		hosts = append(hosts, host)
	}
	if u, err := url.Parse(d.self); err == nil && u.Hostname() != "" {
		hosts = append(hosts, u.Hostname()) // by which the other replicas ask
	}
	return admin.Config{
		Replica: d.data.Replica, Version: version.Get().Version, Store: d.cfg.Store,
		Rollouts: d.rolls, Streams: d.xds, Table: d.table, Prover: d.prover, Catalog: d.certs,
		Trials: d.trials, Doubt: d.doubt(), Dir: d.dir, Hub: d.hub, Events: d.rec,
		Record: d.rec.Record, Journal: d.events, Gone: d.nodes, Replicas: d.replicas, Audit: d.audit,
		Own: d.mtls.Certificates, Policy: d.policy.Policy, TurnedAway: d.turnedAway,
		Listeners:     d.listeners.Admin(),
		PeerTransport: d.peers,
		Lost:          func(ctx context.Context) (bool, error) { return guard.Lost(ctx, d.store) },
		ForgetLoss:    func(ctx context.Context) error { return guard.ForgetLoss(ctx, d.store) },
		Metrics:       metrics.Handler(d.metrics()), Ready: d.ready, Problems: d.problems,
		Vault: d.data.Vault, Custody: d.custody, Token: d.data.Token, Access: d.access, Operators: d.mtls.Operator(),
		Reflection: describe.Services(d.grpc), Hosts: hosts, Log: d.log,
	}
}

// remote returns [xds.Node].Remote of a node on a unix socket, and of no other.
func remote(ctx context.Context) string {
	switch socket, same := transport.OnSocket(ctx); {
	case same:
		return xds.LocalSocket
	case socket:
		return xds.Socket
	}
	return ""
}

// Reloading has Run read the configuration again at each signal of hangup.
func (d *Daemon) Reloading(s live.Source, hangup <-chan os.Signal) {
	p := live.Parts{
		Scopes: d.rolls, Streams: d.xds, Listeners: d.listeners, Expect: d.nodes.Expect, Changed: d.noteSettings,
	}
	d.reload = live.New(s, d.cfg, p, d.log)
	d.hangup = hangup
}

// Run serves until ctx ends. Then it drains: nodes are sent elsewhere, requests may end, and the
// roster is written a last time.
func (d *Daemon) Run(ctx context.Context) error {
	defer d.Close()
	core, stop := context.WithCancel(context.WithoutCancel(ctx)) // outlives ctx while we drain
	defer stop()
	g, core := errgroup.WithContext(core)
	run := func(f func(context.Context) error) { g.Go(func() error { return f(core) }) }
	d.recordStart()
	if d.dir != nil {
		run(d.dir.Run)
		run(d.certlog.Run)
	}
	run(d.certs.Run)
	if d.trials != nil {
		run(d.trials.Run)
	}
	if d.lossy != nil {
		run(d.lossy.Run)
	}
	for _, f := range []func(context.Context) error{
		d.rec.Run, d.nodes.Run, d.rolls.Run, d.replicas.Run, d.table.Run, d.healer.Run, d.prover.Run,
		d.policy.Run, d.audit.Run, d.custody.Run, d.access.Run, rest.Run, d.storedLog().Run,
	} {
		run(f)
	}
	// Nodes that a stop sends away have not recovered: nobody looks any more then.
	looking, unlook := context.WithCancel(core)
	defer unlook()
	run(func(context.Context) error { return d.problems.Run(looking) })
	d.listeners.Run(run)
	run(func(ctx context.Context) error { return d.reload.Run(ctx, d.hangup) })
	run(func(ctx context.Context) error { d.mtls.Watch(ctx, d.cfg.Refresh, d.log); return nil })
	if d.lossy != nil && config.Loopback(strings.TrimPrefix(strings.TrimPrefix(d.self, "http://"), "https://")) {
		run(func(ctx context.Context) error { return d.rolls.FindUnreachable(ctx, d.replicas.Unreachable) })
	}
	run(func(ctx context.Context) error { return d.rolls.LetGo(ctx, d.dismiss) })
	run(func(ctx context.Context) error { return d.bus.Run(ctx, d.heard, d.rolls) })
	g.Go(func() error { return d.serveAdmin() })
	if d.metricsListener != nil {
		g.Go(func() error { return d.serveMetrics() })
	}
	g.Go(func() error { return d.serveXDS(core) })
	g.Go(func() error {
		select {
		case <-ctx.Done():
		case <-core.Done(): // one of the others failed
		}
		unlook()
		d.drain()
		stop()
		return nil
	})
	return g.Wait()
}

func (d *Daemon) serveAdmin() error {
	d.log.Info("admin API", "addr", d.adminListener.Addr().String())
	serve := func(l net.Listener) error { return d.http.Serve(d.failed.Listener("admin", l)) }
	if d.http.TLSConfig != nil {
		serve = func(l net.Listener) error { return d.http.ServeTLS(l, "", "") }
	}
	if err := serve(d.adminListener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("admin API: %w", err)
	}
	return nil
}

func (d *Daemon) serveMetrics() error {
	d.log.Info("metrics and probes", "addr", d.metricsListener.Addr().String())
	err := d.metricsHTTP.Serve(d.failed.Listener("metrics", d.metricsListener))
	if !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("metrics_listen: %w", err)
	}
	return nil
}

// serveXDS serves nodes once sources and store were read. Before that a name that is not known
// yet must not be called absent.
func (d *Daemon) serveXDS(ctx context.Context) error {
	waits := []<-chan struct{}{d.rolls.Ready(), d.certs.Ready(), d.policy.Settled()}
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
	d.rec.Publish(events.Event{
		Kind: events.ReplicaStopping, Name: d.data.Replica,
		Text: "this replica is stopping, and sends its nodes elsewhere",
	})
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
	d.hub.End()
	for _, s := range []*http.Server{d.http, d.metricsHTTP} {
		if err := s.Shutdown(ctx); err != nil {
			s.Close()
		}
	}
}

// Close releases what New opened. It may be called twice.
func (d *Daemon) Close() {
	for _, l := range []net.Listener{d.xdsListener, d.adminListener, d.metricsListener} {
		if l != nil {
			l.Close()
		}
	}
	if d.mtls != nil {
		d.mtls.Close()
	}
	d.closeRecord()
	if d.bus != nil {
		d.bus.Close()
	}
	if d.audit != nil {
		d.audit.Close()
	}
	if d.data != nil {
		d.data.Close()
	}
}

// ready is what /readyz says.
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
		if st, err := d.rolls.Status(scope); err != nil || len(st.Keys) == 0 {
			return fmt.Errorf("the ring of scope %s was not read yet", scope)
		}
	}
	if d.dir != nil {
		if err := check(d.dir.Ready(), "the directory of certificates"); err != nil {
			return err
		}
	}
	return d.policy.Unsettled()
}
