package admin

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/replica"
	replicas "github.com/lockstep-tls/lockstep/rotation/fleet"
	"github.com/lockstep-tls/lockstep/store/memory"
)

// alive are the replicas that a registry hears of.
type alive []replicas.Peer

func (a alive) Peers() []replicas.Peer { return a }

func (a alive) Mute(context.Context, replicas.Peer) (bool, error) { return false, nil }

// A replica that is not heard of and did not stop is named. One that stopped, one that is alive and
// this one are not.
func TestReplicasThatAreNotHeardOfAreNamedAsNotAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memory.New()
		run := func(name string, heard alive) (r *replica.Registry, stop func()) {
			ctx, cancel := context.WithCancel(t.Context())
			r = replica.New(replica.Config{
				Store: s, Replica: name, Version: "v", Shared: true, Refresh: time.Second, Fleet: heard, Ask: heard,
				Log: slog.New(slog.DiscardHandler),
			})
			done := make(chan struct{})
			go func() { defer close(done); _ = r.Run(ctx) }()
			synctest.Wait()
			return r, func() { cancel(); <-done }
		}
		_, stop := run("stopped", nil)
		stop()
		_, stop = run("killed", nil)
		// A kill writes nothing: the record of before is put back.
		val, _, err := s.Get(t.Context(), "replica/killed")
		if err != nil {
			t.Fatal(err)
		}
		stop()
		_, rev, err := s.Get(t.Context(), "replica/killed")
		if err == nil {
			_, err = s.Swap(t.Context(), "replica/killed", rev, val)
		}
		if err != nil {
			t.Fatal(err)
		}
		_, stop = run("live", nil)
		defer stop()
		here, stop := run("here", alive{{Replica: "live", At: time.Now()}})
		defer stop()
		a := &admin{cfg: Config{Replicas: here}}
		for range 3 {
			if got := a.unheard([]string{"killed: no answer"}); len(got) != 1 {
				t.Errorf("twice: %q", got)
			}
			got := a.unheard(nil)
			if len(got) != 1 || !strings.HasPrefix(got[0], "killed: it has not been heard of since") {
				t.Errorf("%q", got)
			}
			time.Sleep(time.Minute)
		}
	})
}
