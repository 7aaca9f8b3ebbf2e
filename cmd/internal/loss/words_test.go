package loss_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/loss"
	"github.com/lockstep-tls/lockstep/cmd/internal/problems"
	"github.com/lockstep-tls/lockstep/store/guard"
	"github.com/lockstep-tls/lockstep/store/memory"
)

// While a loss is not settled no certificate is called absent, and status and errors say what to
// do.
func TestALossIsSaidUntilItIsSettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		s := memory.New()
		release := make(chan struct{})
		l := guard.NewLossy(s, func(context.Context) error { <-release; return nil }, slog.New(slog.DiscardHandler))
		doubt := loss.Doubt(l)
		says := func(certificate, status string) {
			t.Helper()
			if err := doubt(ctx, "a.example"); (err == nil) != (certificate == "") ||
				err != nil && !strings.Contains(err.Error(), certificate) {
				t.Errorf("of a certificate: %v, want %q", err, certificate)
			}
			all, err := loss.Problems(ctx, l)
			if err != nil {
				t.Error(err)
			}
			p := strings.Join(problems.Degraded(all), "; ")
			if (p == "") != (status == "") || !strings.Contains(p, status) {
				t.Errorf("status says %q, want %q", p, status)
			}
		}
		says("", "")
		done := make(chan error)
		go func() { done <- l.Run(ctx) }()
		if err := l.Found(ctx); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		at := time.Now().UTC().Format(time.RFC3339)
		says("being filled again", at)
		close(release)
		synctest.Wait()
		says("lost its content at "+at+": put it again", "lockstep cert rm --confirm")
		_, rev, err := s.Get(ctx, "store/lost")
		if err == nil {
			_, err = s.Swap(ctx, "store/lost", rev, []byte("{"))
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := doubt(ctx, "a.example"); err == nil || !strings.Contains(err.Error(), "when is not known") {
			t.Errorf("while the record cannot be read: %v", err)
		}
		if err := guard.ForgetLoss(ctx, l); err != nil {
			t.Fatal(err)
		}
		says("", "")
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
