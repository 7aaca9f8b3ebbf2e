package admin

import (
	"fmt"
	"reflect"
	"slices"
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
	look := func(after time.Duration) api.StaleCertificates { return b.look(start.Add(after), certificates(nodes)) }
	for _, after := range []time.Duration{time.Minute, 3 * time.Minute, 5*time.Minute - time.Second} {
		if got := look(after); got.Nodes != 0 {
			t.Errorf("after %s: %+v", after, got)
		}
	}
	want := api.StaleCertificates{
		Nodes: 1, IDs: []string{"silent"}, Node: "silent", Name: "chain:shop.example", Since: start,
	}
	if got := look(5*time.Minute + 30*time.Second); !reflect.DeepEqual(got, want) {
		t.Errorf("it was sent five minutes ago: %+v, want %+v", got, want)
	}
	want.Nodes, want.IDs = 2, []string{"silent", "unsent-yet"}
	if got := look(6 * time.Minute); !reflect.DeepEqual(got, want) {
		t.Errorf("five minutes after the first look: %+v, want %+v", got, want)
	}
	all := ofStale(addStale(want, api.StaleCertificates{
		Nodes: 3, IDs: []string{"silent", "x", "z"}, Node: "x", Name: "y", Since: start.Add(1),
	}))
	if len(all) != 1 || all[0].Count != 4 || !all[0].Since.Equal(start) ||
		!strings.Contains(all[0].Text, "4 nodes have an older certificate") ||
		!strings.Contains(all[0].Text, "silent has not taken that of chain:shop.example") {
		t.Errorf("%+v", all)
	}
	nodes["silent"], nodes["unsent-yet"] = nodes["good"], nodes["good"]
	if got := look(6*time.Minute + lookAgain/2); !reflect.DeepEqual(got, want) {
		t.Errorf("all certificates of all streams were looked at twice within %s: %+v", lookAgain, got)
	}
	if got := look(7 * time.Minute); got.Nodes != 0 || ofStale(got) != nil {
		t.Errorf("all have the newest: %+v", got)
	}
	nodes["unsent-yet"] = state("1", "1")
	if got := look(8 * time.Minute); got.Nodes != 0 {
		t.Errorf("it is behind since now: %+v", got)
	}
}

// A node with streams to two replicas counts once, so that it does not end an acknowledgement when
// it moves. Where not all ids are known there are at least as many nodes as are said.
func TestANodeThatTwoReplicasNameCountsOnce(t *testing.T) {
	many := func(from, n int) (ids []string) {
		for i := range n {
			ids = append(ids, fmt.Sprintf("edge-%03d", from+i))
		}
		return ids
	}
	for name, c := range map[string]struct {
		n, m      int
		ids, more []string
		want      int
		words     string
	}{
		"none":                  {want: 0, words: "0 nodes"},
		"one each":              {1, 1, many(1, 1), many(2, 1), 2, "2 nodes"},
		"the same one":          {1, 1, many(1, 1), many(1, 1), 1, "1 nodes"},
		"some of both":          {3, 3, many(1, 3), many(2, 3), 4, "4 nodes"},
		"an earlier version":    {3, 2, nil, many(1, 2), 3, "at least 3 nodes"},
		"more than are told":    {500, 200, many(1, maxIDs), many(1, maxIDs), 500, "at least 500 nodes"},
		"together more of them": {70, 70, many(1, 70), many(71, 70), 140, "at least 140 nodes"},
	} {
		n, ids := sumNodes(c.n, c.ids, c.m, c.more)
		if back, _ := sumNodes(c.m, c.more, c.n, c.ids); n != c.want || back != n || nodesOf(n, ids) != c.words {
			t.Errorf("%s: %d and %d, %s", name, n, back, nodesOf(n, ids))
		}
		if len(ids) > maxIDs || !slices.IsSorted(ids) {
			t.Errorf("%s: %d ids", name, len(ids))
		}
	}
}
