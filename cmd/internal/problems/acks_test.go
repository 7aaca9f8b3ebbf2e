package problems

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/store"
	"github.com/lockstep-tls/lockstep/store/memory"
)

// What is acknowledged at one replica counts at the other, until it begins anew or gets worse.
func TestAnAcknowledgementCoversWhatWasKnownAndNothingElse(t *testing.T) {
	s := memory.New()
	here, there := &Acks{Store: s}, &Acks{Store: s}
	at := time.Unix(10_000, 0).UTC()
	p := func(where string, since time.Duration, count int, severity api.Severity) api.Problem {
		return api.Problem{
			Code: NodeStuck, Where: where, Since: at.Add(since), Count: count, Severity: severity, Text: "x",
		}
	}
	known := []api.Problem{p("a", -time.Minute, 2, api.Warning), p("b", -time.Hour, 1, api.Warning)}
	a := api.Ack{By: "me", Why: "repaired at noon", At: at, Until: at.Add(time.Hour)}
	if err := here.Put(t.Context(), NodeStuck, a, known); err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		p     api.Problem
		now   time.Duration
		known bool
	}{
		"as it was":          {known[0], time.Minute, true},
		"the other place":    {known[1], time.Minute, true},
		"fewer nodes":        {p("a", -time.Minute, 1, api.Warning), time.Minute, true},
		"less severe":        {p("a", -time.Minute, 1, api.Notice), time.Minute, true},
		"more nodes":         {p("a", -time.Minute, 3, api.Warning), time.Minute, false},
		"more severe":        {p("a", -time.Minute, 2, api.Critical), time.Minute, false},
		"at another place":   {p("c", -time.Minute, 1, api.Warning), time.Minute, false},
		"noticed later":      {p("a", time.Minute, 1, api.Warning), 2 * time.Minute, true},
		"begun anew":         {p("a", 61*time.Second, 1, api.Warning), 2 * time.Minute, false},
		"after its time":     {known[0], time.Hour, false},
		"of another problem": {New(StoreDown, "a", "y"), time.Minute, false},
	} {
		one := []api.Problem{c.p}
		there.Read(t.Context())
		there.Apply(one, at.Add(c.now))
		if got := one[0].Acknowledged; (got != nil) != c.known || got != nil && *got != a {
			t.Errorf("%s: acknowledged by %v, want %v", what, got, c.known)
		}
		if Counts(one[0]) == c.known && one[0].Severity != api.Notice {
			t.Errorf("%s: counts as degraded: %v", what, !c.known)
		}
	}
	if had, err := there.Remove(t.Context(), NodeStuck); err != nil || !had {
		t.Fatal(err)
	}
	here.Read(t.Context())
	if here.Apply(known, at); known[0].Acknowledged != nil {
		t.Error("what was taken back counts")
	}
	var refused *api.Error
	if err := here.Put(t.Context(), StoreDown, a, known); !errors.As(err, &refused) || refused.Code != api.NotFound {
		t.Errorf("of a problem that there is none of: %v", err)
	}
}

// failing is a store that cannot be read.
type failing struct{ store.Store }

func (failing) GetAll(_ context.Context, keys []string) []store.Value {
	out := make([]store.Value, len(keys))
	for i := range out {
		out[i].Err = errors.New("away")
	}
	return out
}

func TestWhatWasAcknowledgedCountsWhileTheStoreIsAway(t *testing.T) {
	k := &Acks{Store: memory.New()}
	all := []api.Problem{{Code: StoreDown, Severity: api.Critical, Since: time.Unix(1, 0)}}
	now := time.Unix(1000, 0)
	err := k.Put(t.Context(), StoreDown, api.Ack{By: "me", At: now, Until: now.Add(time.Hour)}, all)
	if err != nil {
		t.Fatal(err)
	}
	k.Read(t.Context())
	k.Apply(all, now)
	k.Store = failing{k.Store}
	again := []api.Problem{{Code: StoreDown, Severity: api.Critical, Since: time.Unix(1, 0)}}
	k.Read(t.Context())
	if k.Apply(again, now); all[0].Acknowledged == nil || again[0].Acknowledged == nil {
		t.Errorf("%+v, then %+v", all[0], again[0])
	}
}
