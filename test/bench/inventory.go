package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

// importMany is the time that lockstep cert import takes, from exec to its end, to bring an archive of certificates in an order of their own into the
// embedded store and into Redis. CLI and server share the processors. Then the same again, where all is stored already.
func importMany(ctx context.Context, b *bench) ([]row, error) {
	n := b.size(1_000_000, 20_000)
	begin := time.Now()
	file := filepath.Join(b.fleet.Dir(), "leaves.tar")
	if err := b.leaves(ctx, file, n); err != nil {
		return nil, err
	}
	defer os.Remove(file)
	b.say("%d certificates, each with its CA's, were made in %.1fs", n, time.Since(begin).Seconds())
	built, err := fleet.Build(ctx, "lockstep")
	if err != nil {
		return nil, err
	}
	var rows []row
	b.huge = filepath.Join(b.fleet.Dir(), b.fresh("huge"))
	for _, to := range []struct {
		what   string
		within time.Duration
		start  func() (*plane, string, error)
	}{
		{"the embedded store", 60 * time.Second, func() (*plane, string, error) {
			p, err := b.ours(ctx, b.huge, nil)
			return p, b.huge, err
		}},
		{"Redis", 120 * time.Second, func() (*plane, string, error) {
			s, err := b.shared(ctx)
			if err != nil {
				return nil, "", err
			}
			p, err := b.replica(ctx, s, "import", nil)
			if err != nil {
				return nil, "", err
			}
			return p, filepath.Join(b.fleet.Dir(), p.name), nil
		}},
	} {
		p, data, err := to.start()
		if err != nil {
			return rows, err
		}
		for _, again := range []bool{false, true} {
			took, peaks, err := b.importOnce(ctx, filepath.Join(built, "lockstep"), p, data, file, n)
			if err != nil {
				return rows, err
			}
			r := row{what: fmt.Sprintf("import of %d certificates into %s", n, to.what), ours: inSeconds(took.Seconds()), note: peaks}
			if again {
				r.what = "— again, when all are stored"
			} else {
				r.must, r.short = fmt.Sprintf("≤ %.0f s", to.within.Seconds()), took > to.within
			}
			rows = append(rows, r)
			b.say("%s: %s, %s", r.what, r.ours, peaks)
		}
		if err := b.end(); err != nil { // what comes next has the machine to itself
			return rows, err
		}
	}
	return rows, nil
}

func (b *bench) importOnce(ctx context.Context, cli string, p *plane, data, file string, n int) (took time.Duration, peaks string, err error) {
	cpu, err := cpuOf(p.proc.PID())
	if err != nil {
		return 0, "", err
	}
	if err := resetPeak(p.proc.PID()); err != nil {
		return 0, "", err
	}
	cmd := exec.CommandContext(ctx, cli, "--data-dir", data, "cert", "import", file, "-o", "json")
	var words strings.Builder
	cmd.Stderr = &words
	begin := time.Now()
	out, err := cmd.Output()
	took = time.Since(begin)
	if err != nil {
		return took, "", fmt.Errorf("%w: %.2000s", err, words.String())
	}
	var done struct{ Stored, Failed int }
	if err := json.Unmarshal(out, &done); err != nil || done.Stored != n || done.Failed != 0 {
		return took, "", fmt.Errorf("%d of %d stored, %d failed (%v)", done.Stored, n, done.Failed, err)
	}
	after, err := cpuOf(p.proc.PID())
	if err != nil {
		return took, "", err
	}
	peak, err := memoryOf(p.proc.PID(), "VmHWM")
	usage := cmd.ProcessState
	return took, fmt.Sprintf("CPU %.1f s of the server and %.1f s of the CLI; at most %s in the server's memory, mapped pages of the store included",
		(after - cpu).Seconds(), (usage.UserTime() + usage.SystemTime()).Seconds(), inMB(float64(peak))), err
}
