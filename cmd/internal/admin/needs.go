package admin

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/identity"
)

// need is what a request to a route must prove.
type need struct {
	// role is the lowest one that may use the route. identity.NoRole is everybody.
	role identity.Role
	// peers says that other replicas may use the route, with their proof. If with is not empty,
	// they may do so only with this parameter in the query.
	peers bool
	with  string
}

var (
	open    = need{}
	reads   = need{role: identity.Read}
	peers   = need{role: identity.Read, peers: true}
	changes = need{role: identity.Operate}
	admins  = need{role: identity.Admin}
)

// needs is who may use which route. A route that is not in it is for the role admin. A role that
// is bound to a scope may change things only where the route names the scope.
var needs = map[string]need{
	"GET /healthz": open,
	"GET /readyz":  open,
	"GET /metrics": open,

	"GET /v1/status":                       reads,
	"GET /v1/pulse":                        peers,
	"GET /v1/nodes":                        {role: identity.Read, peers: true, with: "here"},
	"GET /v1/troubles":                     peers,
	"GET /v1/problems":                     peers,
	"GET /v1/events":                       {role: identity.Read, peers: true, with: "here"},
	"GET /v1/journal":                      {role: identity.Read, peers: true, with: "here"},
	"GET /v1/scopes/{scope}/history":       reads,
	"GET /v1/scopes/{scope}/plan":          reads,
	"GET /v1/scopes/{scope}/rotations/{n}": reads,
	"GET /v1/certs":                        reads,
	"GET /v1/certs/{name}":                 reads,
	"GET /v1/hosts":                        reads,
	"GET /v1/listening":                    peers,
	"GET /v1/explain":                      reads,
	"GET /v1/doors":                        peers,
	"GET /v1/grants":                       {role: identity.Read, peers: true, with: "here"},
	"GET /v1/audit":                        reads,
	"GET /v1/audit/items/{digest}":         reads,
	"GET /v1/audit/verify":                 reads,
	"POST /v1/audit/verify":                reads, // it brings the lines, and changes nothing
	"GET /v1/kek":                          reads,

	"POST /v1/problems/{code}/ack":     changes,
	"POST /v1/scopes/{scope}/rotate":   changes, // with a key of one's own: admins (rotate)
	"POST /v1/scopes/{scope}/burn":     changes,
	"POST /v1/scopes/{scope}/rollback": changes,
	"POST /v1/scopes/{scope}/exclude":  changes,
	"DELETE /v1/nodes/{node}":          changes,
	"PUT /v1/certs/{name}":             changes,
	"DELETE /v1/certs/{name}":          changes,
	"POST /v1/certs/import":            changes,
	"POST /v1/certs/confirm-loss":      changes,
	"PUT /v1/hosts/{name}":             changes,
	"DELETE /v1/hosts/{name}":          changes,

	"POST /v1/audit/mend":      admins,
	"POST /v1/kek/rotate":      admins,
	"POST /v1/kek/retire":      admins,
	"POST /v1/backup":          admins,
	"POST /v1/restore":         admins,
	"POST /v1/store/records":   admins,
	"POST /v1/store/freeze":    admins,
	"POST /v1/store/thaw":      admins,
	"GET /v1/tokens":           admins,
	"POST /v1/tokens":          admins,
	"DELETE /v1/tokens/{name}": admins,
	"GET /debug/pprof/":        admins,
	"GET /debug/pprof/profile": admins,
	"GET /debug/pprof/trace":   admins,
	"GET /debug/pprof/cmdline": admins,
	"GET /debug/pprof/symbol":  admins,
}

// routes is a mux whose handlers see only requests that may be there.
type routes struct {
	mux *http.ServeMux
	*admin
	known []string // known are the patterns, for the tests
}

// HandleFunc is Handle for a function.
func (s *routes) HandleFunc(pattern string, h http.HandlerFunc) { s.Handle(pattern, h) }

// Handle registers h behind what needs says of the pattern.
func (s *routes) Handle(pattern string, h http.Handler) {
	s.known = append(s.known, pattern)
	n, ok := needs[pattern]
	if !ok {
		n = admins
	}
	s.mux.Handle(pattern, s.behind(n, h))
}

// behind lets a request through to h if its caller may do what n says.
func (a *admin) behind(n need, h http.Handler) http.Handler {
	if n.role == identity.NoRole {
		return h
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := a.callerOf(r)
		if err == nil {
			c.changing = n.changes(r)
			err = c.may(n, r)
		}
		if err != nil {
			e := &api.Error{Message: err.Error(), Code: api.Denied}
			if r.Header.Get(proofHeader) != "" {
				e.Replica = a.cfg.Replica
			}
			if n.changes(r) {
				a.recordRefusal(r, c, e, false)
			} else {
				a.refusals.note(r, err)
			}
			w.Header().Set("Content-Type", "application/json")
			fail(w, e)
			return
		}
		h.ServeHTTP(w, r.WithContext(with(r.Context(), c)))
	})
}

// changes reports whether a request to the route would change something.
func (n need) changes(r *http.Request) bool {
	return n.role > identity.Read && r.Method != http.MethodGet
}

// may returns why the caller may not use a route, or nil.
func (c *caller) may(n need, r *http.Request) error {
	what := r.Method + " " + r.URL.Path
	switch {
	case c.peer && (!n.peers || n.with != "" && !r.URL.Query().Has(n.with)):
		return fmt.Errorf("a replica may not ask for %s of another", what)
	case c.peer:
		return nil
	case c.role < n.role:
		return fmt.Errorf("%s has the role %s, and %s needs the role %s: ask an administrator for a token with it "+
			"(lockstep token new --name NAME --role %[4]s)", c.name, c.role, what, n.role)
	case c.scope != "" && n.role > identity.Read && r.PathValue("scope") != c.scope:
		return fmt.Errorf("%s may change the scope %s only, and %s is not bound to it: ask an administrator for a "+
			"token without --scope", c.name, c.scope, strings.TrimSpace(what))
	}
	return nil
}
