package admin

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/pprof"
	"os"
	"strings"
	"time"

	"github.com/lockstep-tls/lockstep/audit"
	"github.com/lockstep-tls/lockstep/cmd/internal/access"
	"github.com/lockstep-tls/lockstep/cmd/internal/advice"
	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/cmd/internal/presence"
	"github.com/lockstep-tls/lockstep/cmd/internal/recorder"
	"github.com/lockstep-tls/lockstep/cmd/internal/replica"
	"github.com/lockstep-tls/lockstep/cmd/internal/stores"
	"github.com/lockstep-tls/lockstep/events"
	"github.com/lockstep-tls/lockstep/events/journal"
	"github.com/lockstep-tls/lockstep/identity"
	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/keysource/catalog"
	"github.com/lockstep-tls/lockstep/keysource/dir"
	"github.com/lockstep-tls/lockstep/keysource/trial"
	"github.com/lockstep-tls/lockstep/rotation"
	replicas "github.com/lockstep-tls/lockstep/rotation/fleet"
	"github.com/lockstep-tls/lockstep/sds"
	"github.com/lockstep-tls/lockstep/seal/custody"
	"github.com/lockstep-tls/lockstep/xds/server"
)

// Config wires the API to the rooms it shows.
type Config struct {
	Replica  string
	Version  string
	Store    string // Store is its kind.
	Rollouts *replicas.Coordinator
	Streams  *server.Server
	Table    *sds.Table
	Prover   *sds.Prover
	Catalog  *catalog.Catalog
	Trials   *trial.Records // Trials is nil if every node gets a changed certificate at once.
	Dir      *dir.Dir       // Dir is nil without --certs.
	Hub      *Hub
	Events   events.Publisher
	Record   func(recorder.Entry) // Record passes on what happened. It does not block.
	Journal  *journal.Journal     // Journal has what happened at this replica.
	Gone     *presence.Registry   // Gone knows the nodes that were here.
	Replicas *replica.Registry    // Replicas knows this one and the others.
	Audit    *audit.Log
	// Doubt returns an error if a name that no source has is not certain to be absent. It may be
	// nil.
	Doubt func(context.Context, keysource.Name) error
	// Witnesses are the lines of the audit log that the stored rollouts name.
	Witnesses func(context.Context) ([]audit.Witness, error)
	Metrics   http.Handler
	Ready     func() error // Ready returns why lockstepd is not ready, or nil.
	Problems  *Problems
	Listeners *Listeners // Listeners is nil if no listener is served.
	Vault     *stores.Vault
	Custody   *custody.Custodian
	// Token is that of the local administrator.
	Token string
	// Access has the tokens of operators, and proves replicas to each other.
	Access *access.Access
	// Operators returns why a client certificate is not for the admin API. It is nil if every one
	// that can connect is.
	Operators func([]*x509.Certificate) error
	// Reflection answers gRPC requests.
	Reflection http.Handler
	Hosts      []string // Hosts are the Host headers that are accepted, besides loopback names.
	// Lost reports that the store has lost certificates that nobody wrote back.
	Lost func(context.Context) (bool, error)
	// ForgetLoss gives up certificates that a store has lost and nobody wrote back.
	ForgetLoss func(context.Context) error
	// Policy returns what nodes may have. It is nil, or returns nil, if everybody may have
	// everything.
	Policy func() *identity.Policy
	// TurnedAway returns the identity with which a node of that id was turned away last, since the
	// identity may not use the id, and when. ok is false if that is not known. It may be nil.
	TurnedAway func(node string) (identity string, at time.Time, ok bool)
	// PeerTransport is how the other replicas' admin APIs are reached. It is nil for plaintext.
	PeerTransport http.RoundTripper
	Log           *slog.Logger
}

type admin struct {
	cfg     Config
	started time.Time
	imports chan struct{} // imports has one element for each import that is in memory.

	refusals refusals
}

// New returns the handler of the whole admin address.
func New(c Config) http.Handler {
	a := newAdmin(c)
	next := http.Handler(a.routes().mux)
	if c.Reflection != nil {
		next = withReflection(a.behind(reads, c.Reflection), next)
	}
	return guard(c.Hosts, next)
}

// Public returns the handler of an address that shows /metrics, /healthz and /readyz, and nothing
// else.
func Public(c Config) http.Handler {
	a := newAdmin(c)
	mux := &routes{mux: http.NewServeMux(), admin: a}
	a.public(mux)
	return mux.mux
}

func newAdmin(c Config) *admin {
	return &admin{
		cfg: c, started: time.Now(), imports: make(chan struct{}, importsHeld), refusals: refusals{log: c.Log},
	}
}

// withReflection answers gRPC requests with services, and passes all others on to next.
func withReflection(services, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor == 2 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
			services.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// public registers what everybody may ask.
func (a *admin) public(mux *routes) {
	mux.Handle("GET /metrics", a.cfg.Metrics)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", a.ready)
}

func (a *admin) routes() *routes {
	mux := &routes{mux: http.NewServeMux(), admin: a}
	a.public(mux)
	mux.HandleFunc("GET /v1/status", answer(a, a.status))
	mux.HandleFunc("GET /v1/pulse", answer(a, a.pulse))
	mux.HandleFunc("GET /v1/nodes", answer(a, a.nodes))
	mux.HandleFunc("DELETE /v1/nodes/{node}", answer(a, a.forgetNode))
	mux.HandleFunc("GET /v1/troubles", answer(a, a.troubles))
	mux.HandleFunc("GET /v1/problems", answer(a, a.problemsHere))
	mux.HandleFunc("GET /v1/events", a.events)
	mux.HandleFunc("GET /v1/journal", answer(a, a.journal))
	mux.HandleFunc("GET /v1/scopes/{scope}/history", answer(a, a.history))
	mux.HandleFunc("GET /v1/scopes/{scope}/plan", answer(a, a.plan))
	mux.HandleFunc("GET /v1/scopes/{scope}/rotations/{n}", answer(a, a.rotation))
	mux.HandleFunc("POST /v1/scopes/{scope}/rotate", answer(a, a.rotate))
	mux.HandleFunc("POST /v1/scopes/{scope}/burn", answer(a, a.burn))
	mux.HandleFunc("POST /v1/scopes/{scope}/rollback", answer(a, a.rollback))
	mux.HandleFunc("POST /v1/problems/{code}/ack", answer(a, a.ack))
	mux.HandleFunc("POST /v1/scopes/{scope}/exclude", answer(a, a.exclude))
	mux.HandleFunc("GET /v1/certs", answer(a, a.certs))
	mux.HandleFunc("GET /v1/certs/{name}", answer(a, a.cert))
	mux.HandleFunc("PUT /v1/certs/{name}", answer(a, a.putCert))
	mux.HandleFunc("DELETE /v1/certs/{name}", answer(a, a.removeCert))
	mux.Handle("POST /v1/certs/import", steadily(answer(a, a.importCerts)))
	mux.HandleFunc("POST /v1/certs/confirm-loss", answer(a, a.confirmLoss))
	mux.HandleFunc("GET /v1/hosts", answer(a, a.hosts))
	mux.HandleFunc("PUT /v1/hosts/{name}", answer(a, a.pin))
	mux.HandleFunc("DELETE /v1/hosts/{name}", answer(a, a.unpin))
	mux.HandleFunc("GET /v1/listening", answer(a, a.listening))
	mux.HandleFunc("GET /v1/explain", answer(a, a.explain))
	mux.HandleFunc("GET /v1/doors", answer(a, a.doors))
	mux.HandleFunc("GET /v1/grants", answer(a, a.grants))
	mux.HandleFunc("GET /v1/audit", answer(a, a.auditLines))
	mux.HandleFunc("GET /v1/audit/items/{digest}", answer(a, a.auditItems))
	mux.HandleFunc("GET /v1/audit/verify", answer(a, a.verifyAudit))
	mux.HandleFunc("POST /v1/audit/verify", answer(a, a.verifyLines))
	mux.HandleFunc("POST /v1/audit/mend", answer(a, a.mendAudit))
	mux.HandleFunc("GET /v1/kek", answer(a, a.kek))
	mux.HandleFunc("POST /v1/kek/rotate", answer(a, a.rotateKEK))
	mux.HandleFunc("POST /v1/kek/retire", answer(a, a.retireKEK))
	mux.HandleFunc("POST /v1/backup", a.backup)
	mux.HandleFunc("POST /v1/restore", answer(a, a.restore))
	mux.HandleFunc("POST /v1/store/records", a.records)
	mux.HandleFunc("POST /v1/store/freeze", answer(a, a.freeze))
	mux.HandleFunc("POST /v1/store/thaw", answer(a, a.thaw))
	mux.HandleFunc("GET /v1/tokens", answer(a, a.tokens))
	mux.HandleFunc("POST /v1/tokens", answer(a, a.newToken))
	mux.HandleFunc("DELETE /v1/tokens/{name}", answer(a, a.revokeToken))
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	return mux
}

func (a *admin) ready(w http.ResponseWriter, _ *http.Request) {
	if err := a.cfg.Ready(); err != nil {
		http.Error(w, advice.Add(err).Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}

// answer makes a handler from a function whose result is sent as JSON. If the function fails after
// it wrote a line into the audit log, another line says so.
func answer[T any](a *admin, f func(r *http.Request) (T, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v, err := f(r)
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		if err != nil {
			a.failed(r, err)
			fail(w, err)
			return
		}
		a.done(r.Context())
		_ = json.NewEncoder(w).Encode(v) // an error means that the client has gone
	}
}

func fail(w http.ResponseWriter, err error) {
	code, e := codeOf(err)
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(e)
}

// codeOf is the one place that maps errors to HTTP.
func codeOf(err error) (code int, e *api.Error) {
	e = &api.Error{Message: advice.Add(err).Error(), Code: api.Failed}
	code = http.StatusInternalServerError
	switch {
	case errors.As(err, &e):
		code = map[api.Code]int{
			api.Usage: http.StatusBadRequest, api.Denied: http.StatusForbidden, api.NotFound: http.StatusNotFound,
			api.Refused: http.StatusConflict, api.Failed: http.StatusInternalServerError,
		}[e.Code]
	case errors.Is(err, keysource.ErrNotExist):
		e.Code, code = api.NotFound, http.StatusNotFound
	case errors.Is(err, audit.ErrUnwritten):
		e.Code, code = api.Refused, http.StatusServiceUnavailable
	case errors.Is(err, rotation.ErrRefused), errors.Is(err, stores.ErrFrozen), errors.Is(err, audit.ErrSound),
		errors.Is(err, presence.ErrLive):
		e.Code, code = api.Refused, http.StatusConflict
	case errors.Is(err, keysource.ErrBadTicketKey),
		errors.Is(err, keysource.ErrBadCertificate), errors.Is(err, keysource.ErrBadName):
		e.Code, code = api.Refused, http.StatusUnprocessableEntity
	case errors.Is(err, os.ErrDeadlineExceeded): // the body of the request came too slowly
		code = http.StatusRequestTimeout
	case errors.Is(err, context.Canceled):
		code = 499
	}
	return code, e
}

// body decodes a request strictly.
func body(r *http.Request, v any) error {
	dec := json.NewDecoder(http.MaxBytesReader(nil, r.Body, 4<<20))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		// the decoder's words may quote a key
		return &api.Error{Message: "the request's JSON cannot be read", Code: api.Usage}
	}
	return nil
}
