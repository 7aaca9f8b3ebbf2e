package admin

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/lockstep-tls/lockstep/audit"
	"github.com/lockstep-tls/lockstep/cmd/internal/access"
	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/identity"
)

func (a *admin) tokens(r *http.Request) (out api.Tokens, err error) {
	out.Tokens = []api.Token{}
	all, err := a.cfg.Access.List(r.Context())
	for _, t := range all {
		out.Tokens = append(out.Tokens, tokenOf(t))
	}
	return out, err
}

func tokenOf(t access.Token) api.Token {
	out := api.Token{
		Name: t.Name, Role: t.Role.String(), Scope: t.Scope, Made: t.Made.UTC(), By: t.By, State: "good",
		Problem: t.Problem,
	}
	if !t.Expires.IsZero() {
		end := t.Expires.UTC()
		out.Expires = &end
	}
	switch {
	case t.Problem != "":
		out.State = "unusable"
	case t.Expired(time.Now()):
		out.State = "expired"
	}
	return out
}

// maxTokenTime bounds how long a token with an end counts. Whoever wants more leaves the end out.
const maxTokenTime = 10 * 365 * 24 * time.Hour

func (a *admin) newToken(r *http.Request) (out api.TokenMade, err error) {
	var q api.NewToken
	if err := body(r, &q); err != nil {
		return out, err
	}
	if err := guarded(r); err != nil {
		return out, err
	}
	role, err := identity.ParseRole(q.Role)
	if err != nil {
		return out, &api.Error{Message: "role: " + err.Error(), Code: api.Usage}
	}
	if q.Scope != "" && !a.cfg.Rollouts.Has(q.Scope) {
		return out, &api.Error{
			Message: fmt.Sprintf("there is no scope %q; there are %v", q.Scope, a.cfg.Rollouts.Scopes()),
			Code:    api.NotFound,
		}
	}
	t := access.Token{Name: q.Name, Role: role, Scope: q.Scope, Made: time.Now(), By: Actor(r.Context())}
	if q.Seconds < 0 || q.Seconds > maxTokenTime.Seconds() {
		return out, &api.Error{
			Message: "a token counts for a time of up to ten years, or without an end", Code: api.Usage,
		}
	}
	why := "role " + q.Role
	if q.Scope != "" {
		why += ", scope " + q.Scope
	}
	if q.Seconds > 0 {
		t.Expires = t.Made.Add(time.Duration(q.Seconds * float64(time.Second)))
		why += ", until " + t.Expires.UTC().Format(time.RFC3339)
	}
	out.Secret, err = a.cfg.Access.New(r.Context(), t, func() error {
		return a.writeDown(r.Context(), audit.Entry{What: "token-new", Name: t.Name, Why: why})
	})
	out.Token = tokenOf(t)
	if err == nil {
		a.cfg.Log.Info("a token was made", "name", t.Name, "role", q.Role, "scope", q.Scope, "by", t.By)
	}
	return out, tokenError(err)
}

func (a *admin) revokeToken(r *http.Request) (out struct{}, err error) {
	name := r.PathValue("name")
	err = a.cfg.Access.Revoke(r.Context(), name, func() error {
		return a.writeDown(r.Context(), audit.Entry{What: "token-revoked", Name: name})
	})
	if err == nil {
		a.cfg.Log.Info("a token was revoked", "name", name, "by", Actor(r.Context()))
	}
	return out, tokenError(err)
}

func tokenError(err error) error {
	for sentinel, code := range map[error]api.Code{
		access.ErrNoToken: api.NotFound, access.ErrExists: api.Refused, access.ErrBadToken: api.Usage,
	} {
		if errors.Is(err, sentinel) {
			return &api.Error{Message: err.Error(), Code: code}
		}
	}
	return err
}
