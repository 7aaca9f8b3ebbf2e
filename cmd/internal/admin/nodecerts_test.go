package admin

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
)

func TestCertificatesOfTheNodesOfAllReplicasAreOneProblem(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	here := api.NodeCertificates{
		Near: 2, NearIDs: []string{"edge-1", "edge-2"}, Node: "edge-2", NotAfter: now.Add(72 * time.Hour),
	}
	there := api.NodeCertificates{
		Near: 2, NearIDs: []string{"edge-2", "edge-3"}, Expired: 1, ExpiredIDs: []string{"edge-9"},
		Node: "edge-9", NotAfter: now.Add(-time.Hour),
	}
	older := api.NodeCertificates{} // a replica of the version before says nothing
	sum := addCertificates(addCertificates(addCertificates(older, here), there), older)
	want := there
	want.Near, want.NearIDs = 3, []string{"edge-1", "edge-2", "edge-3"}
	if !reflect.DeepEqual(sum, want) {
		t.Fatalf("%+v, want %+v", sum, want)
	}
	all := ofNodeCertificates(sum, now)
	if len(all) != 2 || all[0].Severity != api.Critical || all[0].Count != 1 ||
		!strings.Contains(all[0].Text, "that of edge-9 expired 1h0m ago") ||
		all[1].Severity != api.Warning || all[1].Count != 3 {
		t.Errorf("%+v", all)
	}
	if all := ofNodeCertificates(here, now); len(all) != 1 ||
		!strings.Contains(all[0].Text, "that of edge-2, which expires in 3d0h") {
		t.Errorf("%+v", all)
	}
	if all := ofNodeCertificates(older, now); len(all) != 0 {
		t.Errorf("%+v", all)
	}
}
