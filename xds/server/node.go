package server

import (
	"fmt"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// learnNode takes from the first request who the node is. What later requests say of the node does
// not count.
func (m *machine) learnNode(n *corev3.Node) error {
	if m.node.ID != "" {
		return nil
	}
	id := n.GetId()
	switch {
	case id == "":
		return status.Error(codes.InvalidArgument,
			"node.id is missing: the first request of a stream must carry it "+
				"(Envoy: set node.id in the bootstrap or --service-node)")
	case len(id) > maxNodeID || strings.ContainsFunc(id, unprintable):
		return status.Errorf(codes.InvalidArgument,
			"node.id %q: more than %d bytes, or characters that cannot be shown", printable(id, 64), maxNodeID)
	}
	m.node.ID = strings.Clone(id)
	m.node.Cluster = printable(n.GetCluster(), maxNodeID)
	m.readMetadata(n.GetMetadata())
	m.node.Agent = printable(n.GetUserAgentName(), maxNodeID)
	if v := n.GetUserAgentBuildVersion().GetVersion(); v != nil {
		m.node.Build = fmt.Sprintf("%d.%d.%d", v.GetMajorNumber(), v.GetMinorNumber(), v.GetPatch())
	}
	return nil
}
