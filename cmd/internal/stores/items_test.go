package stores

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/audit"
	"github.com/lockstep-tls/lockstep/audit/storesink"
	"github.com/lockstep-tls/lockstep/internal/testkit"
	"github.com/lockstep-tls/lockstep/seal"
	"github.com/lockstep-tls/lockstep/test/fleet"
)

// As many certificates as one request of an import may bring, all of the longest names, on a NATS
// server as it comes: its messages have 1 MiB.
func TestTheLongestNamesOfAnImportAreWrittenDownInNATS(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	nats, err := fleet.ForTest(t).NATS(ctx, "nats", 1)
	testkit.Check(t, err)
	raw, err := Open(ctx, "nats://"+nats.Addrs()+"?replicas=1")
	testkit.Check(t, err)
	defer raw.Close()
	v, err := Unlock(ctx, raw, seal.File(filepath.Join(t.TempDir(), KeyFile)), true)
	testkit.Check(t, err)
	log, err := audit.New(audit.Config{
		Records: storesink.New(v.Store), Replica: "r1", Log: slog.New(slog.DiscardHandler),
	})
	testkit.Check(t, err)
	defer log.Close()
	var items []audit.Item
	for i := range 4096 {
		items = append(items, audit.Item{Name: fmt.Sprintf("%0253d", i), Key: strings.Repeat("v", 32)})
	}
	_, err = log.AppendMany(ctx, audit.Entry{Actor: "me", What: "certs-put"}, items)
	testkit.Check(t, err)
	report, err := log.Verify(ctx, nil)
	if testkit.Check(t, err); len(report.Problems) > 0 || report.Lines == 0 {
		t.Errorf("%+v", report)
	}
}
