package admin

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	replicas "github.com/lockstep-tls/lockstep/rotation/fleet"
)

// What answers at a replica's address may be anything: only the answer of that replica counts.
func TestOnlyTheReplicaThatIsAskedIsBelieved(t *testing.T) {
	const nodes = `"nodes":[{"node":"edge-1","identity":"","state":"live","secrets":[]}]}`
	var elsewhere atomic.Int32
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		elsewhere.Add(1)
		fmt.Fprint(w, `{"replica":"r2",`+nodes)
	}))
	defer other.Close()
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		want   string // in the error; "": none
	}{
		"itself": {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"replica":"r2",`+nodes) }, ""},
		"another": {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"replica":"r1",`+nodes) },
			replicas.ErrAnotherReplica.Error()},
		"one without a name": {
			func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{`+nodes) }, "admin_listen",
		},
		"a redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, other.URL+r.URL.String(), http.StatusTemporaryRedirect)
		}, "307"},
		"one without an end": {func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, `{"replica":"r2","silent":["`)
			for chunk := bytes.Repeat([]byte("x"), 1<<20); r.Context().Err() == nil; {
				if _, err := w.Write(chunk); err != nil {
					return
				}
			}
		}, "too large"},
	} {
		t.Run(name, func(t *testing.T) {
			s := httptest.NewServer(c.answer)
			defer s.Close()
			got, err := Peers{}.Nodes(t.Context(), replicas.Peer{Replica: "r2", Admin: s.URL}, api.NodesQuery{})
			if c.want == "" {
				if err != nil || len(got) != 1 || got[0].Node != "edge-1" {
					t.Fatalf("%+v %v", got, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) || got != nil {
				t.Fatalf("%+v %v, want %q", got, err, c.want)
			}
			if errors.Is(err, replicas.ErrAnotherReplica) != (name == "another" || name == "one without a name") {
				t.Error(err)
			}
		})
	}
	if n := elsewhere.Load(); n > 0 {
		t.Errorf("a redirect was followed %d times", n)
	}
}

func TestAReplicaTellsWhetherItIsMute(t *testing.T) {
	for answer, want := range map[string]string{
		`{"replica":"r2","mute":true}`:  "true <nil>",
		`{"replica":"r2","mute":false}`: "false <nil>",
		`{"replica":"r1","mute":true}`:  "false another",
	} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/v1/pulse" {
				fmt.Fprint(w, answer)
			}
		}))
		mute, err := Peers{}.Mute(t.Context(), replicas.Peer{Replica: "r2", Admin: s.URL})
		if got := fmt.Sprint(mute, " ", err); !strings.HasPrefix(got, want) ||
			errors.Is(err, replicas.ErrAnotherReplica) != strings.Contains(want, "another") {
			t.Errorf("%s: %s", answer, got)
		}
		s.Close()
	}
}
