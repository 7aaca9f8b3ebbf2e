package admin

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/rotation"
	replicas "github.com/lockstep-tls/lockstep/rotation/fleet"
	"github.com/lockstep-tls/lockstep/sds"
	"github.com/lockstep-tls/lockstep/xds"
	"github.com/lockstep-tls/lockstep/xds/server"
)

const ring = "tickets/default"

func held(node, state string, more ...string) api.Node {
	n := api.Node{Node: node, State: "live", Secrets: []api.Secret{{Name: ring, State: state}}}
	for _, s := range more {
		n.Secrets = append(n.Secrets, api.Secret{Name: s, State: stateAccepted})
	}
	return n
}

func loose(node string) api.Node {
	return api.Node{Node: node, State: "live", Secrets: []api.Secret{{Name: "shop.example", State: stateAccepted}},
		Listeners: []api.Secret{{Name: "tls", State: stateAccepted}}}
}

// What one replica has read of the others' rosters is older than what they answer, and streams of
// one node may end at several of them. Each node is one row all the same, and two are two.
func TestEachNodeIsListedOnceWhoeverHasItsStreams(t *testing.T) {
	now := time.Now()
	away := rotation.Member{Node: "edge-1", Nr: 1, Answered: true, Floor: 3, Since: now}
	there := rotation.Member{
		Node: "edge-1", Nr: 1, Answered: true, Connected: true, Floor: 2, Since: now, Replica: "b",
	}
	candidate := rotation.Member{Node: "edge-1", Nr: 2, Connected: true, Floor: 3, Since: now, Replica: "b"}
	own := rotation.Member{
		Node: "edge-1", Nr: 1, Answered: true, Connected: true, Floor: 3, Since: now, Stream: 7,
	}
	second := own
	second.Nr, second.Stream, second.Replica = 2, 0, "b"
	ads := server.StreamView{Node: xds.Node{ID: "edge-1", Stream: 8, Service: xds.ADS}, Since: now, Names: []server.NameView{
		{Type: sds.TypeURL, Name: "shop.example", NameState: server.NameState{
			Known: xds.Present, Current: "v", Sent: "v", SentAt: now, Accepted: "v"}},
	}}
	for name, c := range map[string]struct {
		members []rotation.Member
		streams []server.StreamView
		heard   []heard
		want    []string
	}{
		"the ring is at b, and its roster was read before the node accepted": {
			members: []rotation.Member{there}, streams: []server.StreamView{ads},
			heard: []heard{{"b", []api.Node{held("edge-1", stateAccepted)}}},
			want:  []string{"edge-1 live b [a b] shop.example:accepted tickets/default:accepted"},
		},
		"it was started anew, and b's roster was read while it was a candidate": {
			members: []rotation.Member{away, candidate}, streams: []server.StreamView{ads},
			heard: []heard{{"b", []api.Node{held("edge-1", stateAccepted)}}},
			want:  []string{"edge-1 live b [a b] shop.example:accepted tickets/default:accepted"},
		},
		"all is elsewhere, at two": {
			members: []rotation.Member{there},
			heard:   []heard{{"b", []api.Node{held("edge-1", stateAccepted)}}, {"c", []api.Node{loose("edge-1")}}},
			want: []string{
				"edge-1 live b [b c] shop.example:accepted tickets/default:accepted tls:accepted",
			},
		},
		"the same, and the one without the ring comes first": {
			members: []rotation.Member{there},
			heard:   []heard{{"0", []api.Node{loose("edge-1")}}, {"b", []api.Node{held("edge-1", stateAccepted)}}},
			want: []string{
				"edge-1 live b [0 b] shop.example:accepted tickets/default:accepted tls:accepted",
			},
		},
		"who has the ring does not answer": {
			members: []rotation.Member{there}, heard: []heard{{"c", []api.Node{loose("edge-1")}}},
			want: []string{"edge-1 live c [] shop.example:accepted tickets/default:stale tls:accepted"},
		},
		"who had it answers that it has it no more": {
			members: []rotation.Member{there}, heard: []heard{{"b", nil}},
		},
		"it is away": {members: []rotation.Member{away}, want: []string{"edge-1 away  [] tickets/default:accepted"}},
		"it has moved, and a's own stream has ended": {
			members: []rotation.Member{away}, heard: []heard{{"b", []api.Node{held("edge-1", stateAccepted)}}},
			want: []string{"edge-1 live b [] tickets/default:accepted"},
		},
		"two nodes under one id, one at each": {
			members: []rotation.Member{own, second},
			heard:   []heard{{"b", []api.Node{held("edge-1#2", stateSent)}}},
			want: []string{
				"edge-1 live  [] tickets/default:accepted", "edge-1#2 live b [] tickets/default:sent",
			},
		},
		"the same, and b has not read of the other": {
			members: []rotation.Member{own},
			heard:   []heard{{"b", []api.Node{held("edge-1", stateSent)}}},
			want: []string{
				"edge-1 live  [] tickets/default:accepted", "edge-1#2 live b [] tickets/default:sent",
			},
		},
		"two under one id at b": {
			heard: []heard{{"b", []api.Node{held("edge-1", stateAccepted), held("edge-1#2", stateAccepted)}}},
			want: []string{
				"edge-1 live b [] tickets/default:accepted", "edge-1#2 live b [] tickets/default:accepted",
			},
		},
	} {
		st := replicas.Status{Members: c.members, Now: now, Policy: rotation.Policy{NodeLease: time.Minute}}
		st.View = rotation.View{Scope: "default", Version: "g3-x", Generation: 3}
		a := &admin{cfg: Config{Replica: "a", Prover: sds.NewProver(sds.ProverConfig{})}}
		v := a.fleet()
		v.gather(map[string]replicas.Status{"default": st}, "", c.streams, c.heard, false)
		var got []string
		for _, n := range v.sorted() {
			row := fmt.Sprintf("%s %s %s %v", n.Node, n.State, n.Replica, n.Replicas)
			for _, s := range slices.Concat(n.Secrets, n.Listeners) {
				row += " " + s.Name + ":" + s.State
			}
			got = append(got, row)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s:\n%q, want\n%q", name, got, c.want)
		}
	}
}
