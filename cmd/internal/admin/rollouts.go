package admin

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/identity"
	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/rotation"
)

// LineOf returns a line of history as the API shows it.
func LineOf(scope string, l rotation.Line) api.Line {
	return api.Line{
		At: l.At, Scope: scope, What: string(l.What), Rotation: l.Rotation,
		Generation: l.Generation, Key: l.Key, By: l.By, Why: l.Why,
		Nodes: l.Nodes, Seconds: l.Took.Seconds(), WaitedFor: l.WaitedFor, LeftBehind: l.LeftBehind,
	}
}

func (a *admin) history(r *http.Request) (h api.History, err error) {
	scope := r.PathValue("scope")
	st, err := a.cfg.Rollouts.Status(scope)
	if err != nil {
		return h, err
	}
	h.Lines = []api.Line{}
	for _, l := range st.History {
		h.Lines = append(h.Lines, LineOf(scope, l))
	}
	return h, nil
}

func (a *admin) plan(r *http.Request) (p api.Plan, err error) {
	plan, err := a.cfg.Rollouts.Plan(r.PathValue("scope"))
	if err != nil {
		return p, err
	}
	return api.Plan{
		Scope: plan.Scope, Steps: list(plan.Steps), Nodes: list(plan.Nodes), BlockedBy: list(plan.Blocked),
		Notes: plan.Notes,
	}, nil
}

// list turns nil into an empty list, since scripts iterate over it.
func list[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

func (a *admin) rotation(r *http.Request) (out api.Rotation, err error) {
	scope := r.PathValue("scope")
	n, err := strconv.ParseUint(r.PathValue("n"), 10, 64)
	if err != nil {
		return out, &api.Error{Message: "a rotation is named by its number", Code: api.Usage}
	}
	st, err := a.cfg.Rollouts.Status(scope)
	if err != nil {
		return out, err
	}
	if n > st.Begun+1 || n > st.Begun && !st.Asked {
		return out, &api.Error{
			Message: "scope " + scope + " has had no rotation " + strconv.FormatUint(n, 10), Code: api.NotFound,
		}
	}
	out = api.Rotation{
		Scope: scope, Rotation: n, Ended: st.Ended >= n, Phase: string(st.Phase), Version: st.Version,
		Nodes: api.Count(st.Count), BlockedBy: list(st.BlockedBy), Stuck: []string{}, Lines: []api.Line{},
	}
	if !out.Ended {
		out.RetryAt = st.RetryAt
		out.Stuck, out.OnlyStuck = list(st.Stuck), st.OnlyStuck
	}
	if out.Ended {
		out.Outcome = "replaced" // the history may say something else
	}
	for _, l := range st.History {
		if l.Rotation != n || l.What == rotation.LineRetired {
			continue
		}
		out.Lines = append(out.Lines, LineOf(scope, l))
		if out.Ended && slices.Contains(endings, l.What) {
			out.Outcome = string(l.What)
		}
	}
	return out, nil
}

// endings are the lines with which a rotation or a burn ends.
var endings = []rotation.LineKind{rotation.LineDone, rotation.LineBurnt, rotation.LineRolledBack}

func (a *admin) rotate(r *http.Request) (s api.Started, err error) {
	req, err := request(r)
	if err != nil {
		return s, err
	}
	q := rotation.Request{By: req.By, Why: req.Why}
	if c := callerIn(r.Context()); len(req.Key) > 0 && c != nil && c.role < identity.Admin {
		// whoever knows a ticket key can act as any client
		return s, &api.Error{
			Message: c.name + " has the role " + c.role.String() +
				", and a key of one's own needs the role admin: leave the key out, and lockstepd makes one",
			Code: api.Denied,
		}
	}
	if len(req.Key) > 0 {
		k, err := keysource.ParseTicketKey(req.Key)
		if err != nil {
			return s, err
		}
		q.Key = &k
	}
	scope, message := r.PathValue("scope"), "the rotation has begun"
	before, err := a.cfg.Rollouts.Status(scope)
	if err != nil {
		return s, err
	}
	n, err := a.cfg.Rollouts.Rotate(r.Context(), scope, q)
	if before.Underway && n == before.Begun {
		message = fmt.Sprintf("rotation %d is under way already, and is joined: nothing was changed", n)
	}
	return a.begun(r, n, message, err)
}

func (a *admin) burn(r *http.Request) (s api.Started, err error) {
	req, err := request(r)
	if err != nil {
		return s, err
	}
	n, err := a.cfg.Rollouts.Burn(r.Context(), r.PathValue("scope"), req.By, req.Why)
	return a.begun(r, n, "every key was replaced; clients make a full handshake next", err)
}

func (a *admin) rollback(r *http.Request) (s api.Started, err error) {
	req, err := request(r)
	if err != nil {
		return s, err
	}
	n, err := a.cfg.Rollouts.Rollback(r.Context(), r.PathValue("scope"), req.By, req.Why)
	message := "the earlier key encrypts again, and a fresh one is being distributed"
	if n == 0 {
		message = "the new key was dropped before it encrypted"
	}
	return a.begun(r, n, message, err)
}

func (a *admin) exclude(r *http.Request) (struct{}, error) {
	var req api.ExcludeRequest
	if err := body(r, &req); err != nil {
		return struct{}{}, err
	}
	d := time.Duration(req.Seconds * float64(time.Second))
	if req.Node == "" || d < 0 || d > 365*24*time.Hour {
		return struct{}{}, &api.Error{Message: "exclude takes a node and a time of 0 to one year", Code: api.Usage}
	}
	who := claimed(r, req.By)
	err := a.cfg.Rollouts.Exclude(r.Context(), r.PathValue("scope"), req.Node, who, req.Why, d)
	if errors.Is(err, keysource.ErrNotExist) && d > 0 {
		if words := absence(a.cfg.Gone.Gone(), req.Node); words != "" {
			err = &api.Error{
				Message: words + "; no rotation waits for it, so there is nothing to exclude", Code: api.NotFound,
			}
		}
	}
	return struct{}{}, err
}

func request(r *http.Request) (req api.RotateRequest, err error) {
	err = body(r, &req)
	req.By = claimed(r, req.By)
	return req, err
}

func (a *admin) begun(r *http.Request, n uint64, message string, err error) (api.Started, error) {
	if err != nil {
		return api.Started{}, err
	}
	scope := r.PathValue("scope")
	return api.Started{Scope: scope, Rotation: n, Version: a.cfg.Rollouts.Version(scope), Message: message}, nil
}

// Words says a line of history in words.
func Words(l api.Line) string {
	var b strings.Builder
	fmt.Fprintf(&b, "scope %s: ring g%d %s", l.Scope, l.Generation, l.What)
	say := func(ok bool, format string, args ...any) {
		if ok {
			fmt.Fprintf(&b, format, args...)
		}
	}
	say(l.Rotation > 0, ", rotation %d", l.Rotation)
	say(l.Key != "", ", key %s", l.Key)
	say(l.Nodes > 0, ", %d nodes", l.Nodes)
	say(len(l.WaitedFor) > 0, ", waited for %s", strings.Join(l.WaitedFor, " "))
	say(len(l.LeftBehind) > 0, ", left behind %s", strings.Join(l.LeftBehind, " "))
	say(l.By != "", ", by %s", l.By)
	say(l.Why != "", ": %s", l.Why)
	return b.String()
}
