package fleet

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"
)

func TestAReplicaThatNobodyReachesOnLoopbackIsElsewhereOnceItIsHeardOfAgain(t *testing.T) {
	var asked, warned []string
	at := time.Now()
	peers := []Peer{
		{Replica: "gone", Admin: "http://127.0.0.1:1", At: at},
		{Replica: "there", Admin: "https://192.0.2.7:18080", At: at},
		{Replica: "socket", At: at},
	}
	n := newNeighbours(func() []Peer { return peers }, func(_ context.Context, p Peer) error {
		asked = append(asked, p.Replica)
		return errors.New("nobody is there")
	}, func(p Peer) { warned = append(warned, p.Replica) })
	for i, want := range [][]string{{"there"}, nil, {"gone"}, nil} {
		if i == 2 {
			peers[0].At = at.Add(heartbeat)
		}
		warned = nil
		if n.look(t.Context()); !slices.Equal(warned, want) {
			t.Errorf("look %d: warned of %v, want %v", i, warned, want)
		}
	}
	if !slices.Equal(asked, []string{"gone", "gone", "gone"}) {
		t.Errorf("asked %v", asked)
	}
}

func TestAReplicaThatAnswersOnLoopbackIsOnThisMachine(t *testing.T) {
	answer := error(nil)
	var warned []string
	peers := func() []Peer { return []Peer{{Replica: "r2", Admin: "http://localhost:18080", At: time.Now()}} }
	look := func(n *neighbours) []string {
		warned = nil
		n.look(t.Context())
		return warned
	}
	again := func() *neighbours {
		return newNeighbours(peers, func(context.Context, Peer) error { return answer },
			func(p Peer) { warned = append(warned, p.Replica) })
	}
	n := again()
	for range 2 {
		if got := look(n); got != nil {
			t.Errorf("warned of %v, which answers", got)
		}
	}
	answer = ErrAnotherReplica
	n = again()
	if got := look(n); !slices.Equal(got, []string{"r2"}) {
		t.Errorf("another replica answers there: warned of %v", got)
	}
	if got := look(n); got != nil {
		t.Errorf("warned again of %v", got)
	}
	reach := n.peers()[0]
	reach.Admin = "http://127.0.0.1:18081"
	n.peers = func() []Peer { return []Peer{reach} }
	if got := look(n); !slices.Equal(got, []string{"r2"}) {
		t.Errorf("it gives another address: warned of %v", got)
	}
}
