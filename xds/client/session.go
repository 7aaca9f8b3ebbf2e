package client

import (
	"context"
	"errors"
	"io"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	statuspb "google.golang.org/genproto/googleapis/rpc/status"

	"github.com/lockstep-tls/lockstep/xds"
)

const maxResponse = 16 << 20 // bytes of one response; the servers of this project stay far below

var desc = &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}

// session runs one stream, from its first request to its end. answered is true if a response came.
func (c *Client) session(ctx context.Context, names []string, held map[string]string) (answered bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer c.live.Store(false)
	stream, err := c.cfg.Conn.NewStream(ctx, desc, c.cfg.Method, grpc.MaxCallRecvMsgSize(maxResponse))
	if err != nil {
		return false, err
	}
	responses, ended := receive(ctx, stream)
	req := &discoveryv3.DeltaDiscoveryRequest{
		Node: c.cfg.Node, TypeUrl: c.cfg.Type, ResourceNamesSubscribe: names, InitialResourceVersions: held,
	}
	for {
		if req != nil && stream.SendMsg(req) != nil {
			return answered, reason(responses, ended)
		}
		c.live.Store(true)
		req = nil
		select {
		case resp := <-responses:
			if !answered {
				c.cfg.Reached()
			}
			answered = true
			req = c.take(resp)
		case <-c.wake:
			if subscribe, unsubscribe := c.changes(); len(subscribe)+len(unsubscribe) > 0 {
				req = &discoveryv3.DeltaDiscoveryRequest{
					TypeUrl: c.cfg.Type, ResourceNamesSubscribe: subscribe, ResourceNamesUnsubscribe: unsubscribe,
				}
			}
		case err := <-ended:
			return answered, err
		}
	}
}

// receive returns a channel of responses, and one that gets the reason when there are no more.
func receive(ctx context.Context, stream grpc.ClientStream) (<-chan *discoveryv3.DeltaDiscoveryResponse,
	<-chan error) {
	responses, ended := make(chan *discoveryv3.DeltaDiscoveryResponse), make(chan error, 1)
	go func() {
		for {
			resp := new(discoveryv3.DeltaDiscoveryResponse)
			if err := stream.RecvMsg(resp); err != nil {
				if errors.Is(err, io.EOF) {
					err = errEnded
				}
				ended <- err
				return
			}
			select {
			case responses <- resp:
			case <-ctx.Done():
				ended <- ctx.Err()
				return
			}
		}
	}()
	return responses, ended
}

// reason returns why a send failed: the stream has ended, and the receiver knows why.
func reason(responses <-chan *discoveryv3.DeltaDiscoveryResponse, ended <-chan error) error {
	for {
		select {
		case <-responses: // it was not applied, so it is sent again
		case err := <-ended:
			return err
		}
	}
}

// take applies a response and returns its acknowledgement.
func (c *Client) take(resp *discoveryv3.DeltaDiscoveryResponse) *discoveryv3.DeltaDiscoveryRequest {
	ack := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: c.cfg.Type, ResponseNonce: resp.GetNonce()}
	resources := make([]*xds.Resource, 0, len(resp.GetResources()))
	for _, r := range resp.GetResources() {
		res := &xds.Resource{Name: r.GetName(), Version: r.GetVersion(), Body: r.GetResource()}
		if r.GetTtl() != nil {
			res.Until = time.Now().Add(r.GetTtl().AsDuration())
		}
		resources = append(resources, res)
	}
	if resources = c.dropUnwanted(resources); len(resources)+len(resp.GetRemovedResources()) == 0 {
		return ack
	}
	if err := c.cfg.Apply(resources, resp.GetRemovedResources()); err != nil {
		c.cfg.Log.Warn("refused what the server sent", "type", c.cfg.Type, "nonce", resp.GetNonce(), "error", err)
		ack.ErrorDetail = &statuspb.Status{Code: int32(codes.InvalidArgument), Message: err.Error()}
		return ack
	}
	for _, r := range resources {
		c.applied[r.Name] = r.Version
	}
	for _, n := range resp.GetRemovedResources() {
		delete(c.applied, n)
	}
	return ack
}
