package server

import (
	"fmt"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/lockstep-tls/lockstep/xds"
)

// learnNode takes from the first request who the node is, and returns an error if it may not
// connect. Then the node has no ID, so no event is reported of it. What later requests say of the
// node does not count.
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
	node := m.node
	node.ID = strings.Clone(id)
	if err := m.env.mayConnect(node); err != nil {
		return err
	}
	m.node.ID = node.ID
	m.node.Cluster = printable(n.GetCluster(), maxNodeID)
	m.readMetadata(n.GetMetadata())
	m.node.Agent = printable(n.GetUserAgentName(), maxNodeID)
	m.node.Build = printable(n.GetUserAgentVersion(), maxNodeID)
	if v := n.GetUserAgentBuildVersion().GetVersion(); v != nil {
		m.node.Build = fmt.Sprintf("%d.%d.%d", v.GetMajorNumber(), v.GetMinorNumber(), v.GetPatch())
	}
	return nil
}

// mayConnect returns the gRPC status with which a node is turned away, or nil.
func (env *environment) mayConnect(n xds.Node) error {
	if env.admit == nil {
		return nil
	}
	if err := env.admit(n); err != nil {
		return status.Error(codes.PermissionDenied, err.Error())
	}
	return nil
}
