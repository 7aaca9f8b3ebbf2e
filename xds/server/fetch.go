package server

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/lockstep-tls/lockstep/xds"
)

const (
	fetchWait  = 2 * time.Second // how long Fetch waits for a name that is not known yet
	fetchNames = 1024            // names in one request
)

// Fetch answers a unary request with the named resources that are present. While one of them is
// not known yet it waits, at most 2 s, and then fails with UNAVAILABLE. It fails with NOT_FOUND if
// all are absent. Fetch remembers nothing and reports no event. The error is a gRPC status.
func (s *Server) Fetch(
	ctx context.Context, req *discoveryv3.DiscoveryRequest, svc xds.Service,
) (*discoveryv3.DiscoveryResponse, error) {
	m := &machine{env: s.env, node: s.peer(ctx, svc)}
	if err := m.learnNode(req.GetNode()); err != nil {
		return nil, err
	}
	src, names := s.env.types[req.GetTypeUrl()], req.GetResourceNames()
	switch {
	case src == nil:
		return nil, status.Errorf(codes.InvalidArgument, "type_url %q is not served here",
			printable(req.GetTypeUrl(), maxNodeID))
	case len(names) == 0:
		s.env.counters.wildcards.Add(1)
		return nil, status.Error(codes.InvalidArgument,
			"resource_names is empty: name what you want, there is no wildcard")
	case len(names) > fetchNames:
		return nil, status.Errorf(codes.ResourceExhausted, "%d names in one request, at most %d: use a stream",
			len(names), fetchNames)
	}
	s.mu.Lock()
	s.last++
	m.node.Stream = s.last
	s.mu.Unlock()

	mailbox := xds.NewMailbox()
	for _, name := range names {
		src.Watch(m.node, name, mailbox)
		defer src.Unwatch(m.node, name, mailbox)
	}
	ctx, cancel := context.WithTimeout(ctx, fetchWait)
	defer cancel()
	for {
		found, waiting := s.lookup(m.node, src, names)
		switch {
		case waiting == "" && len(found) == 0:
			return nil, status.Errorf(codes.NotFound, "no resource %q for this node", printable(names[0], maxNodeID))
		case waiting == "":
			return fetched(req.GetTypeUrl(), found), nil
		}
		select {
		case <-mailbox.Signal():
			mailbox.Take()
		case <-s.draining:
			return nil, errDraining
		case <-ctx.Done():
			return nil, status.Errorf(codes.Unavailable, "resource %q is not known yet: ask again",
				printable(waiting, maxNodeID))
		}
	}
}

// lookup returns the resources of names that are present, and one name that is not known yet.
func (s *Server) lookup(node xds.Node, src xds.Resources, names []string) (found []*xds.Resource, waiting string) {
	for _, name := range names {
		if len(name) > s.env.limits.nameLen {
			continue
		}
		switch r, known := src.Lookup(node, name); known {
		case xds.Present:
			found = append(found, r)
		case xds.NotYet:
			waiting = name
		}
	}
	return found, waiting
}

// fetched returns the response that holds found. Its version is a hash if there are several.
func fetched(typeURL string, found []*xds.Resource) *discoveryv3.DiscoveryResponse {
	resp := &discoveryv3.DiscoveryResponse{TypeUrl: typeURL, VersionInfo: found[0].Version}
	hash := sha256.New()
	for _, r := range found {
		resp.Resources = append(resp.Resources, r.Body)
		hash.Write([]byte(r.Version + "\n"))
	}
	if len(found) > 1 {
		resp.VersionInfo = hex.EncodeToString(hash.Sum(nil)[:12])
	}
	return resp
}
