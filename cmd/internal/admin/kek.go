package admin

import (
	"errors"
	"net/http"
	"strings"

	"github.com/lockstep-tls/lockstep/audit"
	"github.com/lockstep-tls/lockstep/cmd/internal/advice"
	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/seal"
	"github.com/lockstep-tls/lockstep/seal/custody"
)

func (a *admin) kek(r *http.Request) (k api.KEK, err error) {
	st := a.cfg.Custody.Status()
	k = api.KEK{
		Source: st.Source, Primary: st.Keys.Primary.String(), Staged: ids(st.Keys.Staged), Old: ids(st.Keys.Old),
		Records: st.Work.Records, Seen: st.Work.Seen, Resealed: st.Work.Resealed, Bad: list(st.Work.Bad),
		WaitsFor: []string{}, Replicas: []api.KEKReplica{},
	}
	switch {
	case len(k.Staged) > 0:
		k.Phase, k.WaitsFor = "distributing", list(st.WaitsFor)
	case len(k.Old) == 0:
		k.Phase = "steady"
	case st.Resealed:
		k.Phase = "resealed"
	default:
		k.Phase, k.WaitsFor = "resealing", list(st.WaitsFor)
	}
	if err := errors.Join(st.Canary, st.Err); err != nil {
		k.Problem = advice.Add(err).Error()
	}
	reports, unreadable, err := a.cfg.Custody.Reports(r.Context())
	if len(unreadable) > 0 {
		k.Problem = strings.TrimPrefix(k.Problem+"; ", "; ") + "the reports of these replicas cannot be read, " +
			"they may seal with a key that this keyset lacks: " + strings.Join(unreadable, ", ")
	}
	for _, p := range reports {
		k.Replicas = append(k.Replicas, api.KEKReplica(p))
	}
	return k, err
}

func ids(keys []seal.KeyID) []string {
	out := []string{}
	for _, id := range keys {
		out = append(out, id.String())
	}
	return out
}

func (a *admin) rotateKEK(r *http.Request) (k api.KEK, err error) {
	if err := a.writeDown(r.Context(),
		audit.Entry{What: "kek-rotate", Key: a.cfg.Custody.Status().Keys.Primary.String()}); err != nil {
		return k, err
	}
	if _, err := a.cfg.Custody.Rotate(r.Context()); err != nil {
		return k, refused(err)
	}
	a.cfg.Log.Info("a new sealing key was asked for", "source", a.cfg.Custody.Status().Source)
	return a.kek(r)
}

func (a *admin) retireKEK(r *http.Request) (out api.KEKRetired, err error) {
	if keys := a.cfg.Custody.Status().Keys; len(keys.Old) == 0 && len(keys.Staged) == 0 {
		return api.KEKRetired{Primary: keys.Primary.String(), Nothing: true}, nil
	}
	if err := a.writeDown(r.Context(),
		audit.Entry{What: "kek-retire", Key: a.cfg.Custody.Status().Keys.Primary.String()}); err != nil {
		return out, err
	}
	out.Proved, err = a.cfg.Custody.Retire(r.Context())
	out.Primary = a.cfg.Custody.Status().Keys.Primary.String()
	return out, refused(err)
}

// refused marks errors that another try would not change.
func refused(err error) error {
	for _, e := range []error{seal.ErrReadOnly, seal.ErrRefused, custody.ErrRefused} {
		if errors.Is(err, e) {
			return &api.Error{Message: err.Error(), Code: api.Refused}
		}
	}
	return err
}
