package daemon

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/cmd/internal/archive"
	"github.com/lockstep-tls/lockstep/keysource"
)

// TestARotationDuringAnImportGoesOn: each is decided and written, with its line in the audit log,
// while archives are being stored. What it takes is for the log of the test.
func TestARotationDuringAnImportGoesOn(t *testing.T) {
	r, s := start(t, nil), newShop(t)
	const importers, pairs = 6, 1500
	p := s.pair("", 0, "*.many.example")
	var wg sync.WaitGroup
	for i := range importers {
		var all []archive.Pair
		for j := range pairs {
			all = append(all, archive.Pair{
				Folder: fmt.Sprintf("n%d-%d.many.example", i, j), PEM: keysource.PEM{Chain: p.Chain, Key: p.Key},
			})
		}
		body := tarOf(t, all...)
		wg.Go(func() {
			if done, err := r.client.ImportCerts(t.Context(), body); err != nil || done.Stored != pairs {
				t.Errorf("import: %+v %v", done, err)
			}
		})
	}
	over := make(chan struct{})
	go func() { wg.Wait(); close(over) }()
	var took []time.Duration
	for going := true; going && len(took) < 6; { // one requester may ask for no more
		began := time.Now()
		started, err := r.client.Rotate(t.Context(), "default", api.RotateRequest{By: "me"})
		if err != nil {
			t.Fatalf("after %d rotations: %v", len(took), err)
		}
		for ended := false; !ended; {
			at, err := r.client.Rotation(t.Context(), "default", started.Rotation)
			if err != nil {
				t.Fatal(err)
			}
			if ended = at.Ended; !ended {
				time.Sleep(2 * time.Millisecond)
			}
		}
		took = append(took, time.Since(began))
		select {
		case <-over:
			going = false
		default:
		}
	}
	<-over
	slices.Sort(took)
	t.Logf("%d rotations during the import of %d certificates: half took %s, the slowest %s",
		len(took), importers*pairs, took[len(took)/2], took[len(took)-1])
	if found, err := r.client.VerifyAudit(t.Context()); err != nil || len(found.Reports[0].Problems) > 0 {
		t.Errorf("%+v %v", found, err)
	}
}
