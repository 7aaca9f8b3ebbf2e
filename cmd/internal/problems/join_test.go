package problems

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
)

func TestTheProblemsOfOtherReplicasStandThereOnceWithTheirNames(t *testing.T) {
	clock := func(text string) api.Problem { return New(ClockOff, "", text) }
	here := []api.Problem{New(NodeGone, "", "1 gone"), New(EventsDown, "", "events are down"), clock("40s off")}
	more := make([]api.Problem, MaxTold+5)
	for i := range more {
		more[i] = New(AuditSinkDown, strconv.Itoa(i), "no line")
	}
	all := Join("a", here, []Told{
		{"b", []api.Problem{
			New(NodeGone, "", "2 gone"), New(EventsDown, "", "events are down"), clock("50s off"),
		}, true},
		{"c", []api.Problem{
			New(StandIn, "x", "2 nodes"), New(EventsDown, "", "events are down"), clock("50s off"),
			New(NodeExcluded, "x", "x"),
		}, true},
		{"d", []api.Problem{New(NodeExcluded, "x", "y"), {Code: "of-a-later-version", Text: "z"}}, true},
		{"e", more, true},
	})
	var got []string
	for _, p := range all {
		if p.Code != AuditSinkDown {
			got = append(got, fmt.Sprintf("%s %s %v", p.Code, p.Text, p.Replicas))
		}
	}
	want := []string{
		"node-gone 1 gone []", "events-down events are down [a b c]", "clock-off 40s off []",
		"clock-off 50s off [b c]", "node-excluded x [c d]", "of-a-later-version z [d]",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s", strings.Join(got, "\n"))
	}
	if n := len(all) - len(want); n != MaxTold {
		t.Errorf("%d problems of one replica, want at most %d", n, MaxTold)
	}
	if here[1].Replicas != nil {
		t.Error("the list of this replica was changed")
	}
}

// A replica may answer what is wrong with it, and not which troubles its nodes have.
func TestWhatWasNotSummedUpIsNotDropped(t *testing.T) {
	here := []api.Problem{New(StandIn, "x", "1 node")}
	all := Join("a", here, []Told{
		{"b", []api.Problem{New(StandIn, "x", "2 nodes"), New(NodesNearEnd, "", "5 nodes")}, false},
		{"c", []api.Problem{New(StandIn, "x", "3 nodes")}, true},
	})
	var got []string
	for _, p := range all {
		got = append(got, fmt.Sprintf("%s %s %v", p.Code, p.Text, p.Replicas))
	}
	want := []string{"stand-in 1 node []", "stand-in 2 nodes [b]", "node-certificates-near-end 5 nodes [b]"}
	if !slices.Equal(got, want) {
		t.Errorf("%s", strings.Join(got, "\n"))
	}
}

// Each replica has its own directory of certificates, sealing keys and expected nodes.
func TestWhatIsWrongWithTheFilesOfAnotherReplicaIsShown(t *testing.T) {
	here := []api.Problem{
		New(CertificatesExpired, "", "2 certificates have expired; x expired 3m59s ago, at noon"),
		New(NotRenewed, "", "1 certificate expires in 12d3h"), New(NodeMissing, "", "1 expected: e1"),
	}
	all := Join("a", here, []Told{{"b", []api.Problem{
		New(CertificatesExpired, "", "2 certificates have expired; x expired 4m0s ago, at noon"),
		New(NotRenewed, "", "7 certificates expire in 12d3h"), New(NodeMissing, "", "1 expected: e2"),
		New(RecordsUnopenable, "", "r"),
	}, true}})
	var got []string
	for _, p := range all {
		got = append(got, fmt.Sprintf("%s %.14s %v", p.Code, p.Text, p.Replicas))
	}
	want := []string{
		"certificates-expired 2 certificates [a b]", "certificates-not-renewed 1 certificate  []",
		"node-missing 1 expected: e1 []", "certificates-not-renewed 7 certificates [b]",
		"node-missing 1 expected: e2 [b]",
		"records-unopenable r [b]",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s", strings.Join(got, "\n"))
	}
}

func TestEachProblemOfTheFleetIsInTheRegister(t *testing.T) {
	for _, code := range slices.Concat(ofFleet, summed) {
		if _, ok := Find(code); !ok {
			t.Errorf("%q is no code", code)
		}
	}
	for _, code := range []string{ClockOff, AuditSinkDown, EventsDown, StoreDown, OwnExpired, ConfigUnusable} {
		if slices.Contains(slices.Concat(ofFleet, summed), code) {
			t.Errorf("%s at another replica would not be shown", code)
		}
	}
}
