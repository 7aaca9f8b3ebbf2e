package admin

import (
	"net/http"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/cmd/internal/expiring"
	"github.com/lockstep-tls/lockstep/cmd/internal/problems"
	"github.com/lockstep-tls/lockstep/rotation"
	replicas "github.com/lockstep-tls/lockstep/rotation/fleet"
)

func (a *admin) status(r *http.Request) (s api.Status, err error) {
	s = api.Status{
		Replica: a.cfg.Replica, Version: a.cfg.Version, Started: a.started, Store: a.cfg.Store,
		Streams: a.cfg.Streams.Stats().Streams, Scopes: []api.Scope{},
	}
	said := make(chan []told, 1)
	go func() { said <- a.askProblems(r.Context()) }()
	ends := expiring.Look(a.cfg.Dir, a.cfg.Catalog, time.Now())
	certs := make(chan api.CertSummary, 1)
	go func() { certs <- a.certSummary(r, ends) }()
	elsewhere := make(chan []api.Troubles, 1)
	go func() { elsewhere <- a.askTroubles(r.Context()) }()
	here := a.cfg.Problems.fresh(r.Context(), freshWithin)
	troubles := a.fleetTroubles(here.troubles, <-elsewhere)
	s.Troubles = troubles.Troubles
	for _, name := range a.cfg.Rollouts.Scopes() {
		st, err := a.cfg.Rollouts.Status(name)
		if err != nil {
			return s, err
		}
		s.Scopes = append(s.Scopes, scopeOf(name, Actor(r.Context()), st))
	}
	others := <-said
	s.Replicas = a.replicaList(others)
	s.Problems = list(a.fleetProblems(here.own, troubles, others))
	s.Degraded = problems.Degraded(s.Problems)
	s.Certs = <-certs
	return s, nil
}

func (a *admin) pulse(*http.Request) (api.Pulse, error) {
	return api.Pulse{Replica: a.cfg.Replica, Mute: a.cfg.Rollouts.Mute()}, nil
}

// requestsOf says how many rotations may be asked for, in particular by the caller.
func requestsOf(m rotation.Room, caller string) *api.Requests {
	you := m.For(caller)
	out := &api.Requests{
		Left: m.Left, LeftToOne: m.LeftToOne, LeftToYou: you.Left, AgainAt: you.AgainAt, By: []api.Requester{},
	}
	for _, q := range m.By {
		out.By = append(out.By, api.Requester(q))
	}
	return out
}

func scopeOf(name, caller string, st replicas.Status) api.Scope {
	s := api.Scope{
		Scope: name, Phase: string(st.Phase), Since: st.Since, Rotation: st.Begun, Underway: st.Underway || st.Asked,
		Keys: []api.Key{}, Nodes: api.Count(st.Count), BlockedBy: []string{},
	}
	if len(st.Keys) == 0 {
		return s
	}
	s.Version, s.BlockedBy, s.NextAt, s.RetryAt = st.Version, list(st.BlockedBy), st.NextAt, st.RetryAt
	s.Requests = requestsOf(st.Room, caller)
	for i, k := range st.Keys {
		key := api.Key{ID: k.ID, Fingerprint: k.Fingerprint, Role: "drain", Created: k.Created}
		switch {
		case i == 0:
			key.Role = "encrypt"
		case k.FirstUsed.IsZero():
			key.Role = "next"
		}
		if !k.RetiresAt.IsZero() {
			key.RetireAt = &k.RetiresAt
		}
		s.Keys = append(s.Keys, key)
	}
	return s
}
