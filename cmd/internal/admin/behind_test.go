package admin

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/sds"
	"github.com/lockstep-tls/lockstep/xds"
	"github.com/lockstep-tls/lockstep/xds/server"
)

// certificates are streams of nodes, each with one certificate.
func certificates(all map[string]server.NameState) func(func(string, server.NameState) bool) []server.StreamView {
	return func(keep func(string, server.NameState) bool) (out []server.StreamView) {
		for node, st := range all {
			s := server.StreamView{Node: xds.Node{ID: node, Stream: uint64(len(node))}}
			for _, name := range []string{"chain:shop.example", "tickets/default"} {
				if keep(name, st) {
					s.Names = append(s.Names, server.NameView{Type: sds.TypeURL, Name: name, NameState: st})
				}
			}
			out = append(out, s)
		}
		return out
	}
}

func TestANodeWithAnOlderCertificateForLongIsAProblem(t *testing.T) {
	var b behind
	start := time.Unix(10_000, 0)
	state := func(sent, accepted string) server.NameState {
		return server.NameState{Known: xds.Present, Current: "2", Sent: sent, SentAt: start, Accepted: accepted}
	}
	refused := state("2", "1")
	refused.Refused = &server.Refusal{Version: "2"}
	nodes := map[string]server.NameState{
		"good": state("2", "2"), "refused": refused, "silent": state("2", "1"), "unsent-yet": state("1", "1"),
	}
	look := func(after time.Duration) api.StaleCertificates {
		b.look(t.Context(), start.Add(after), certificates(nodes))
		return b.last()
	}
	for _, after := range []time.Duration{time.Minute, 3 * time.Minute, 5*time.Minute - time.Second} {
		if got := look(after); got.Nodes != 0 {
			t.Errorf("after %s: %+v", after, got)
		}
	}
	want := api.StaleCertificates{Nodes: 1, Node: "silent", Name: "chain:shop.example", Since: start}
	if got := look(5*time.Minute + 30*time.Second); got != want {
		t.Errorf("it was sent five minutes ago: %+v, want %+v", got, want)
	}
	if want.Nodes = 2; look(6*time.Minute) != want {
		t.Errorf("five minutes after the first look: %+v, want %+v", look(6*time.Minute), want)
	}
	all := ofStale(addStale(want, api.StaleCertificates{Nodes: 3, Node: "x", Name: "y", Since: start.Add(1)}))
	if len(all) != 1 || all[0].Count != 5 || !all[0].Since.Equal(start) ||
		!strings.Contains(all[0].Text, "silent has not taken that of chain:shop.example") {
		t.Errorf("%+v", all)
	}
	nodes["silent"], nodes["unsent-yet"] = nodes["good"], nodes["good"]
	cut, cancel := context.WithCancel(t.Context())
	cancel()
	b.look(cut, start.Add(6*time.Minute), func(func(string, server.NameState) bool) []server.StreamView { return nil })
	if got := b.last(); got != want {
		t.Errorf("a look that was cut off counts: %+v", got)
	}
	if got := look(7 * time.Minute); got.Nodes != 0 || ofStale(got) != nil {
		t.Errorf("all have the newest: %+v", got)
	}
	nodes["unsent-yet"] = state("1", "1")
	if got := look(8 * time.Minute); got.Nodes != 0 {
		t.Errorf("it is behind since now: %+v", got)
	}
}
