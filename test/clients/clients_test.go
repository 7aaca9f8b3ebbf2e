package main

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

// OpenSSL and Python take tickets, and resume at every node of the kind, across a rotation, too.
// What curl does depends on its version; it must only succeed everywhere.
func TestSessionsOfOpenSSLPythonAndCurl(t *testing.T) {
	t.Parallel()
	root, err := fleet.Root()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	sources := filepath.Join(root, "test", "clients")
	some, err := chosen("OpenSSL,Python,curl")
	if err != nil {
		t.Fatal(err)
	}
	here, _, missing := prepare(ctx, sources, t.TempDir(), some)
	if len(missing) > 0 {
		t.Fatalf("make test-packages installs what is missing: %q", missing)
	}
	s, err := newStage(ctx, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	all, err := s.travel(ctx, sources, "", here)
	if err != nil {
		t.Fatal(err)
	}
	for _, j := range all {
		if j.err != nil {
			t.Errorf("%s: %v", s.kinds[j.kind].name, j.err)
			continue
		}
		for i, st := range itinerary {
			if want := !st.over; j.resumed[i] != want && (j.client.name != "curl" || st.over) {
				t.Errorf("%s with TLS %s at %s, %s: resumed %t", j.client.name, j.version, s.kinds[j.kind].name,
					st.name, j.resumed[i])
			}
		}
	}
	if len(all) != 12 {
		t.Errorf("%d journeys were made", len(all))
	}
}
