package crash

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

// A kill in the midst of an import loses nothing that was acknowledged, and the import run again
// stores the rest, without harm.
func TestKillDuringAnImportLosesNothingThatWasAcknowledged(t *testing.T) {
	s := setUp(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	bin, err := fleet.Build(ctx, "lockstep")
	check(err)
	lockstep := func(args ...string) ([]byte, error) {
		return s.fleet.Run(ctx, filepath.Join(bin, "lockstep"),
			append([]string{"--data-dir", s.plane.Data}, args...)...)
	}
	const n = 5000 // three archives
	for i, point := range []string{"import/before-swap", "import/half-way", "import/after-swap"} {
		host := fmt.Sprintf("many%d.example", i)
		file := filepath.Join(s.fleet.Dir(), host+".tar")
		check(os.WriteFile(file, archiveOf(t, n, host), 0o600))
		before, _ := s.traffic.Counts()
		os.Remove(s.hit)
		check(s.plane.Kill())
		s.start(point)
		_, err := lockstep("cert", "import", file)
		if err == nil {
			t.Fatalf("%s: the import whose lockstepd died has succeeded", point)
		}
		acknowledged := -1
		if m := regexp.MustCompile(`(\d+) stored before`).FindStringSubmatch(err.Error()); m != nil {
			acknowledged, _ = strconv.Atoi(m[1])
		}
		if b, herr := os.ReadFile(s.hit); herr != nil || string(b) != point || acknowledged < 0 {
			t.Fatalf("lockstepd died at %q, not at %s: %v", b, point, err)
		}
		s.start("")
		check(fleet.Until(ctx, func() error { return s.inStep(ctx) }))

		list, err := lockstep("cert", "list", "-o", "json", "--limit", strconv.Itoa(4*n), "h")
		check(err)
		var have struct {
			Certs []struct{ Name, Problem string }
		}
		check(json.Unmarshal(list, &have))
		stored := 0
		for _, c := range have.Certs {
			if c.Problem != "" {
				t.Errorf("%s: %s: %s", point, c.Name, c.Problem)
			}
			if bytes.HasSuffix([]byte(c.Name), []byte(host)) {
				stored++
			}
		}
		out, err := lockstep("cert", "import", file, "-o", "json")
		check(err)
		var again struct{ Stored, Same, Failed int }
		check(json.Unmarshal(out, &again))
		if stored < acknowledged || again.Stored != n || again.Same != stored || again.Failed != 0 {
			t.Errorf("%s: %d of %d were stored, %d of them acknowledged; again: %+v",
				point, stored, n, acknowledged, again)
		}
		t.Logf("%s: %d of %d were stored, %d acknowledged", point, stored, n, acknowledged)
		s.check(before, false)
	}
	s.auditIsSound()
}

// archiveOf is one of n hosts below host, all with one certificate.
func archiveOf(t *testing.T, n int, host string) []byte {
	t.Helper()
	ca, err := fleet.NewCA("import CA")
	if err != nil {
		t.Fatal(err)
	}
	p, err := ca.Issue(fleet.Leaf{Names: []string{"*." + host}})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := range n {
		for _, f := range []struct {
			name string
			text []byte
		}{{"tls.crt", p.Chain}, {"tls.key", p.Key}} {
			if err := w.WriteHeader(&tar.Header{
				Name: fmt.Sprintf("h%d.%s/%s", i, host, f.name), Size: int64(len(f.text)), Mode: 0o600,
			}); err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write(f.text); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
