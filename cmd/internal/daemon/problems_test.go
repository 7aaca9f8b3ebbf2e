package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/store"
)

// shown are the codes of status.
func (r *running) shown(t *testing.T) (codes []string) {
	for _, p := range r.status(t).Problems {
		codes = append(codes, p.Code)
	}
	slices.Sort(codes)
	return slices.Compact(codes)
}

var problemLine = regexp.MustCompile(
	`(?m)^lockstep_problems\{alert="(\w+)",code="([a-z-]+)",severity="(\w+)"\} (\d+)$`)

// metrics is what /metrics says.
func (r *running) metrics(t *testing.T) string {
	t.Helper()
	resp, err := r.client.HTTP.Get(r.client.Base + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// counted are the codes that the metric counts, and how many series it has.
func (r *running) counted(t *testing.T) (codes []string, series int) {
	t.Helper()
	for _, m := range problemLine.FindAllStringSubmatch(r.metrics(t), -1) {
		if series++; m[4] != "0" {
			codes = append(codes, m[2])
		}
	}
	slices.Sort(codes)
	return codes, series
}

// Status and the metric read one list: each problem of one is in the other.
func TestStatusAndTheMetricCountTheSameProblems(t *testing.T) {
	r := start(t, nil)
	agree := func(want ...string) {
		t.Helper()
		eventually(t, func() string {
			shown := r.shown(t)
			counted, series := r.counted(t)
			for _, w := range want {
				if !slices.Contains(shown, w) {
					return fmt.Sprintf("status has no %s: %v", w, shown)
				}
			}
			if !slices.Equal(shown, counted) || series < 30 {
				return fmt.Sprintf("status has %v, the metric %v of %d series", shown, counted, series)
			}
			return ""
		})
	}
	agree()
	ring(t, r, "edge-1")
	if err := r.client.Exclude(t.Context(), "default", api.ExcludeRequest{Node: "edge-1", Seconds: 60}); err != nil {
		t.Fatal(err)
	}
	agree("node-excluded")
	repair := breakLog(t, r)
	if _, err := r.client.Rotate(t.Context(), "default", api.RotateRequest{By: "me"}); err == nil {
		t.Fatal("a change was made that cannot be written down")
	}
	agree("node-excluded", "audit-sink-down")

	st := r.status(t)
	i := slices.IndexFunc(st.Problems, func(p api.Problem) bool { return p.Code == "node-excluded" })
	p := st.Problems[i]
	if p.Where != "edge-1 in scope default" || p.Severity != api.Warning || p.Since.IsZero() ||
		time.Since(p.Since) > time.Minute ||
		!strings.Contains(p.Next, "lockstep exclude edge-1 --scope default --for 0") {
		t.Errorf("%+v", p)
	}
	if !slices.Contains(st.Degraded, p.Text+" ("+p.Next+")") {
		t.Errorf("degraded lacks %q: %q", p.Text, st.Degraded)
	}
	repair(r.Daemon)

	// What somebody knows about is no longer degraded, and counts in another metric.
	q := api.AckRequest{By: "ann", Why: "it is being replaced", Seconds: 3600}
	if err := r.client.Acknowledge(t.Context(), "node-excluded", q); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() string {
		st := r.status(t)
		i := slices.IndexFunc(st.Problems, func(p api.Problem) bool { return p.Code == "node-excluded" })
		if counted, _ := r.counted(t); slices.Contains(counted, "node-excluded") || i < 0 {
			return fmt.Sprint(counted)
		}
		k := st.Problems[i].Acknowledged
		if k == nil || !strings.Contains(k.By, "ann") || k.Why != q.Why ||
			strings.Contains(strings.Join(st.Degraded, ";"), "edge-1") {
			return fmt.Sprintf("%+v, degraded %q", k, st.Degraded)
		}
		return ""
	})
	var refused *api.Error
	err := r.client.Acknowledge(t.Context(), "nothing", q)
	if !errors.As(err, &refused) || refused.Code != api.NotFound {
		t.Errorf("a code that there is none of: %v", err)
	}
}

// silent is a store that may stop answering, and does not heed contexts then.
type silent struct {
	store.Store
	now  atomic.Bool
	free chan struct{}
}

func (s *silent) GetAll(ctx context.Context, keys []string) []store.Value {
	if s.now.Load() {
		<-s.free
	}
	return s.Store.GetAll(ctx, keys)
}

// Metrics go by the last list, and status waits two seconds for a new one, although the store does
// not even heed a deadline. What was acknowledged counts.
func TestAStoreThatDoesNotAnswerHoldsUpNeitherTheMetricsNorStatus(t *testing.T) {
	d := opened(t, nil)
	s := &silent{Store: d.store, free: make(chan struct{})}
	d.problems.Acks.Store = s
	r := d.run(t)
	ring(t, r, "edge-1")
	err := r.client.Exclude(t.Context(), "default", api.ExcludeRequest{Node: "edge-1", Seconds: 600})
	if err != nil {
		t.Fatal(err)
	}
	if err = r.client.Acknowledge(t.Context(), "node-excluded", api.AckRequest{By: "ann", Seconds: 600}); err != nil {
		t.Fatal(err)
	}
	known := regexp.MustCompile(`(?m)^lockstep_problems_acknowledged\{code="node-excluded".*\} 1$`)
	eventually(t, func() string {
		if s := r.metrics(t); !known.MatchString(s) {
			return s
		}
		return ""
	})
	s.now.Store(true)
	defer close(s.free)
	r.client.HTTP.Timeout = 15 * time.Second
	for range 3 {
		if p, err := r.one(t, "node-excluded"); err != nil || p.Acknowledged == nil {
			t.Errorf("%+v %v", p, err)
		}
		if s := r.metrics(t); !known.MatchString(s) {
			t.Error(s)
		}
	}
}

// What happens to a node, a ring and the store is counted in the histograms.
func TestDurationsAreCounted(t *testing.T) {
	r, s := start(t, nil), newShop(t)
	if _, err := r.client.ImportCerts(t.Context(), tarOf(t, s.pair("shop.example", 0, "shop.example"))); err != nil {
		t.Fatal(err)
	}
	newPuppet(t, r, "envoy-1", "", "chain:shop.example").takes("", counts)
	if _, err := r.client.Rotate(t.Context(), "default", api.RotateRequest{By: "me"}); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() string {
		resp, err := r.client.HTTP.Get(r.client.Base + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{
			`lockstep_on_demand_lookup_seconds_count [1-9]`,
			`lockstep_push_ack_seconds_count\{kind="certificate"\} [1-9]`,
			`lockstep_store_call_seconds_count\{call="swap"\} [1-9]`,
			`lockstep_rotation_phase_duration_seconds_count\{phase="promoting",scope="default"\} [1-9]`,
			`lockstep_nodes_connected\{program="[^"]*",version="[^"]*"\} 1`,
		} {
			if !regexp.MustCompile(want).Match(b) {
				return "no " + want
			}
		}
		return ""
	})
}
