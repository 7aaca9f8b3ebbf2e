package daemon

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/cmd/internal/config"
	"github.com/lockstep-tls/lockstep/cmd/internal/problems"
)

// one returns the problem of a code that status shows.
func (r *running) one(t *testing.T, code string) (p api.Problem, err error) {
	t.Helper()
	all := r.status(t).Problems
	i := slices.IndexFunc(all, func(p api.Problem) bool { return p.Code == code })
	if i < 0 {
		return p, fmt.Errorf("status has no %s: %+v", code, all)
	}
	return all[i], nil
}

func TestWhatWasAcknowledgedStaysSoOverARestart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	in := func(c *config.Config) { c.DataDir = dir }
	r := start(t, in)
	ring(t, r, "edge-1")
	err := r.client.Exclude(t.Context(), "default", api.ExcludeRequest{Node: "edge-1", Seconds: 3600})
	if err != nil {
		t.Fatal(err)
	}
	before, err := r.one(t, problems.NodeExcluded)
	if err != nil {
		t.Fatal(err)
	}
	q := api.AckRequest{By: "ann", Seconds: 3600}
	if err := r.client.Acknowledge(t.Context(), problems.NodeExcluded, q); err != nil {
		t.Fatal(err)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	r = start(t, in)
	eventually(t, func() string {
		after, err := r.one(t, problems.NodeExcluded)
		if err == nil && (!after.Since.Equal(before.Since) || after.Acknowledged == nil) {
			err = fmt.Errorf("%+v, before the restart %+v", after, before)
		}
		if err != nil {
			return err.Error()
		}
		return ""
	})
}

// A problem that nobody asked about stands since it was seen first, not since somebody asked.
func TestAProblemStandsSinceTheDaemonSawIt(t *testing.T) {
	r := start(t, nil)
	r.problems.Fresh(t.Context())
	ring(t, r, "edge-1")
	err := r.client.Exclude(t.Context(), "default", api.ExcludeRequest{Node: "edge-1", Seconds: 3600})
	if err != nil {
		t.Fatal(err)
	}
	r.problems.Fresh(t.Context()) // as Run does
	seen := time.Now()
	time.Sleep(2 * time.Millisecond)
	if p, err := r.one(t, problems.NodeExcluded); err != nil || p.Since.After(seen) {
		t.Errorf("%+v %v, seen before %s", p, err, seen)
	}
}

func TestANodeThatDoesNotTakeTheNewestCertificateIsFound(t *testing.T) {
	r, s := start(t, nil), newShop(t)
	put := func() {
		t.Helper()
		tar := tarOf(t, s.pair("shop.example", 0, "shop.example"))
		if _, err := r.client.ImportCerts(t.Context(), tar); err != nil {
			t.Fatal(err)
		}
	}
	put()
	n := newPuppet(t, r, "envoy-1", "", "chain:shop.example")
	n.takes("", counts)
	put() // which it does not answer
	now := time.Now()
	eventually(t, func() string {
		now = now.Add(10 * time.Minute)
		if got := r.problems.Stale(t.Context(), now); got.Nodes != 1 || got.Node != "envoy-1" ||
			got.Name != "chain:shop.example" || got.Since.After(time.Now()) {
			return fmt.Sprintf("%+v", got)
		}
		return ""
	})
	n.takes("", counts)
	eventually(t, func() string {
		now = now.Add(10 * time.Minute)
		if got := r.problems.Stale(t.Context(), now); got.Nodes != 0 {
			return fmt.Sprintf("it took the newest: %+v", got)
		}
		return ""
	})
}

// A replica tells others what is wrong with it, and status lists the replicas.
func TestAReplicaTellsItsOwnProblems(t *testing.T) {
	r := start(t, nil)
	ring(t, r, "edge-1")
	err := r.client.Exclude(t.Context(), "default", api.ExcludeRequest{Node: "edge-1", Seconds: 3600})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, func() string {
		own, err := r.client.Problems(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if own.Replica != r.data.Replica || own.Version == "" ||
			!slices.ContainsFunc(own.Problems, func(p api.Problem) bool { return p.Code == problems.NodeExcluded }) {
			return fmt.Sprintf("%+v", own)
		}
		return ""
	})
	all := r.status(t).Replicas
	if len(all) != 1 || all[0].Replica != r.data.Replica || all[0].State != api.ReplicaHere || !all[0].Answers ||
		all[0].SkewSeconds == nil {
		t.Errorf("%+v", all)
	}
}
