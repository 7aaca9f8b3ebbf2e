package admin

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/advice"
	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/cmd/internal/expiring"
	replicas "github.com/lockstep-tls/lockstep/rotation/fleet"
	"github.com/lockstep-tls/lockstep/sds"
)

func (a *admin) status(r *http.Request) (s api.Status, err error) {
	s = api.Status{
		Replica: a.cfg.Replica, Version: a.cfg.Version, Started: a.started, Store: a.cfg.Store,
		Streams: a.cfg.Streams.Stats().Streams, Degraded: list(a.cfg.Degraded()), Scopes: []api.Scope{},
	}
	troubles := a.fleetTroubles(r.Context())
	s.Troubles = troubles.Troubles
	for _, t := range troubles.Troubles {
		if t.State == stateProved {
			continue
		}
		s.Degraded = append(s.Degraded, sentence(t))
	}
	if troubles.More > 0 {
		s.Degraded = append(s.Degraded,
			fmt.Sprintf("%d more secrets are refused or missing on some nodes (lockstep nodes)", troubles.More))
	}
	for _, name := range a.cfg.Rollouts.Scopes() {
		st, err := a.cfg.Rollouts.Status(name)
		if err != nil {
			return s, err
		}
		s.Scopes = append(s.Scopes, scopeOf(name, st))
		s.Degraded = append(s.Degraded, complaints(name, st)...)
	}
	ends := expiring.Look(a.cfg.Dir, a.cfg.Catalog, time.Now())
	s.Degraded = append(s.Degraded, ends.Problems()...)
	s.Certs, err = a.certSummary(r, ends)
	if n := len(s.Certs.Problems); n > 0 {
		s.Degraded = append(s.Degraded, fmt.Sprintf("%d certificates have a problem (lockstep cert list)", n))
	}
	if names, n := a.cfg.Table.Failing(); n > 0 {
		s.Degraded = append(s.Degraded, fmt.Sprintf("%d certificates cannot be loaded, "+
			"what was sent of them stays (lockstep cert get NAME tells why): %v", n, names))
	}
	s.Degraded = append(s.Degraded, refusedFirst(a.cfg.Table.Refusals())...)
	if n := len(s.Certs.Held); n > 0 {
		s.Degraded = append(s.Degraded, fmt.Sprintf("%d names are gone from the directory and held back: "+
			"is the volume mounted? (lockstep cert rm --confirm gives them up)", n))
	}
	return s, err
}

// refusedFirst says which changed certificates were refused by the first node of a kind.
func refusedFirst(some []sds.Refusal, n int) (out []string) {
	for _, r := range some {
		out = append(out, fmt.Sprintf("certificate %s: %s, the first of kind %s, refused the new one, "+
			"and no other node of that kind gets it: %s; "+
			"put another one, or give this one to all (lockstep cert put --now)", r.Name, r.Node, r.Kind, r.Words))
	}
	if more := n - len(some); more > 0 {
		out = append(out, fmt.Sprintf("%d more certificates were refused by the first node of a kind", more))
	}
	return out
}

func (a *admin) pulse(*http.Request) (api.Pulse, error) {
	return api.Pulse{Replica: a.cfg.Replica, Mute: a.cfg.Rollouts.Mute()}, nil
}

func scopeOf(name string, st replicas.Status) api.Scope {
	s := api.Scope{
		Scope: name, Phase: string(st.Phase), Since: st.Since, Rotation: st.Begun, Underway: st.Underway || st.Asked,
		Keys: []api.Key{}, Nodes: api.Count(st.Count), BlockedBy: []string{},
	}
	if len(st.Keys) == 0 {
		return s
	}
	s.Version, s.BlockedBy, s.NextAt = st.Version, list(st.BlockedBy), st.NextAt
	for i, k := range st.Keys {
		key := api.Key{ID: k.ID, Role: "drain", Created: k.Created}
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

// complaints are what is not as it should be in a scope.
func complaints(name string, st replicas.Status) (out []string) {
	if errors.Is(st.Err, replicas.ErrUnrecorded) {
		out = append(out, fmt.Sprintf("%v; what is published goes on being served", advice.Add(st.Err)))
	} else if st.Err != nil {
		out = append(out, fmt.Sprintf("scope %s: the store cannot be used, what is published goes on being "+
			"served: %v", name, advice.Add(st.Err)))
	}
	for _, what := range st.Unreadable {
		out = append(out, fmt.Sprintf("scope %s: %s; rotations wait for that replica's nodes until it has "+
			"written another", name, what))
	}
	if len(st.Keys) == 0 {
		return append(out, fmt.Sprintf("scope %s: no ring yet", name))
	}
	if len(st.Doubted) > 0 {
		out = append(out, fmt.Sprintf("scope %s: the store was put back, or lost writes: "+
			"nodes hold g%d, of which it knew nothing. "+
			"A key that was burnt since its ring was made would be in use again, among %v: "+
			"if one was burnt (lockstep audit show), run lockstep burn %s; else this ends when they have retired",
			name, st.Proven, st.Doubted, name))
	}
	if n := st.Count.Refused; n > 0 {
		out = append(out, fmt.Sprintf("scope %s: %d nodes refuse the ring (lockstep nodes)", name, n))
	}
	stuck, example := 0, ""
	for _, m := range st.Members {
		if m.Stuck && m.Connected {
			stuck++
			example = fmt.Sprintf("%s: %s", m.Name(), m.Words)
		}
	}
	if stuck > 0 {
		out = append(out, fmt.Sprintf("scope %s: %d nodes refuse the ring, and nothing that is sent helps: "+
			"restart this Envoy: %s", name, stuck, example))
	}
	for node, f := range st.Refusers {
		out = append(out, fmt.Sprintf("scope %s: %s refused the new key: %s", name, node, f.Words))
	}
	if age := st.Now.Sub(st.Keys[0].FirstUsed); age >= st.Policy.MaxKeyAge {
		out = append(out, fmt.Sprintf("scope %s: the encrypting key is %s old, beyond max_key_age "+
			"(lockstep status names what blocks)", name, age.Round(time.Second)))
	}
	for node, until := range st.Excluded {
		out = append(out, fmt.Sprintf("scope %s: %s is excluded until %s",
			name, node, until.UTC().Format(time.RFC3339)))
	}
	return out
}
