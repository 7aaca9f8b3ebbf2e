package admin

import (
	"errors"
	"net/http"
	"strconv"

	"github.com/lockstep-tls/lockstep/audit"
	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/events"
	"github.com/lockstep-tls/lockstep/store"
)

// maxShown bounds the lines of one answer.
const maxShown = 10_000

func (a *admin) auditLines(r *http.Request) (out api.Audit, err error) {
	out.Lines = []api.AuditLine{}
	n := 50
	if s := r.URL.Query().Get("last"); s != "" {
		if n, err = strconv.Atoi(s); err != nil || n < 1 || n > maxShown {
			return out, &api.Error{
				Message: "last is a number of lines, 1 to " + strconv.Itoa(maxShown), Code: api.Usage,
			}
		}
	}
	lines, err := a.cfg.Audit.Lines(r.Context(), n)
	if err != nil {
		return out, err
	}
	rollouts, err := a.cfg.Witnesses(r.Context())
	if err != nil {
		return out, err
	}
	made := audit.Effect(lines, rollouts)
	for _, l := range lines {
		line := api.AuditLine{
			Number: l.Number, At: l.At, Actor: l.Actor, What: l.What, Scope: l.Scope, Name: l.Name, Key: l.Key,
			KeyID: l.KeyID, Burnt: l.Burnt, Generation: l.Generation, Rotation: l.Rotation, Nodes: l.Nodes,
			WaitedFor: l.WaitedFor, LeftBehind: l.LeftBehind, Seconds: l.Took.Seconds(), Times: l.Times, Items: l.Items,
			Why: l.Why, Replica: l.Replica, MAC: l.MAC,
		}
		if m, known := made[l.Number]; known {
			line.Made = &m
		}
		out.Lines = append(out.Lines, line)
	}
	return out, nil
}

// auditItems answers with the certificates that a line stands for.
func (a *admin) auditItems(r *http.Request) (out api.AuditItems, err error) {
	items, err := a.cfg.Audit.Items(r.Context(), r.PathValue("digest"))
	if errors.Is(err, store.ErrNotExist) {
		return out, &api.Error{Message: err.Error(), Code: api.NotFound}
	}
	out.Items = []api.AuditItem{}
	for _, it := range items {
		out.Items = append(out.Items, api.AuditItem(it))
	}
	return out, err
}

func (a *admin) verifyAudit(r *http.Request) (out api.AuditReports, err error) {
	report, err := a.cfg.Audit.Verify(r.Context(), a.cfg.Witnesses)
	if err != nil {
		return out, err
	}
	return reportsOf(report), nil
}

// verifyLines checks a file that the client sends, since the key stays here.
func (a *admin) verifyLines(r *http.Request) (out api.AuditReports, err error) {
	rollouts, err := a.cfg.Witnesses(r.Context())
	if err != nil {
		return out, err
	}
	reports, err := a.cfg.Audit.VerifyLines(r.Context(), r.Body, rollouts...)
	if err != nil {
		return out, err
	}
	return reportsOf(reports...), nil
}

// mendAudit writes no line before it mends, since none can be written.
func (a *admin) mendAudit(r *http.Request) (out api.AuditMended, err error) {
	var q api.MendRequest
	if err := body(r, &q); err != nil {
		return out, err
	}
	rollouts, err := a.cfg.Witnesses(r.Context())
	if err != nil {
		// they may wait for the log themselves
		a.cfg.Log.Warn("the audit log is mended without the lines that the rollouts name", "err", err)
	}
	head, err := a.cfg.Audit.Mend(r.Context(), claimed(r, q.By), rollouts)
	out.Head = head.String()
	if err == nil {
		a.did(r, events.AuditMended, "", "the audit log was mended, and goes on at "+out.Head+",")
	}
	return out, err
}

func reportsOf(reports ...audit.Report) (out api.AuditReports) {
	out.Reports = []api.AuditReport{}
	for _, r := range reports {
		one := api.AuditReport{
			Chain: r.Chain, Lines: r.Lines, Head: r.Head.String(), Problems: []api.AuditProblem{}, More: r.More,
		}
		for _, p := range r.Problems {
			one.Problems = append(one.Problems,
				api.AuditProblem{Fault: string(p.Fault), First: p.First, Last: p.Last, Words: p.Words})
		}
		out.Reports = append(out.Reports, one)
	}
	return out
}
