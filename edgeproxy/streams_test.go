package edgeproxy

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// echoSocket answers every message with itself.
func echoSocket(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer c.CloseNow()
	for {
		kind, b, err := c.Read(r.Context())
		if err != nil {
			return
		}
		if err := c.Write(r.Context(), kind, b); err != nil {
			return
		}
	}
}

// socket opens a WebSocket through the proxy.
func socket(r *rig) *websocket.Conn {
	r.Helper()
	c, resp, err := websocket.Dial(shortly(r.TB), "wss://"+shop+"/chat",
		&websocket.DialOptions{HTTPClient: r.over("http/1.1")})
	if err != nil {
		r.Fatal(err, resp)
	}
	r.Cleanup(func() { c.CloseNow() })
	return c
}

func say(t *testing.T, c *websocket.Conn, what string) {
	t.Helper()
	ctx := shortly(t)
	check(t, c.Write(ctx, websocket.MessageText, []byte(what)))
	_, got, err := c.Read(ctx)
	check(t, err)
	if string(got) != what {
		t.Errorf("%q comes back as %q", what, got)
	}
}

func TestAWebSocketMayBeSilent(t *testing.T) {
	t.Parallel()
	for _, scheme := range []string{"http", "https"} {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			r := to(t, short, origin(t, scheme, echoSocket))
			c := socket(r)
			say(t, c, "first")
			// real connections: it is the absence of a timeout that is shown
			time.Sleep(5 * r.proxy.cfg.Timeouts.Body / 2)
			say(t, c, strings.Repeat("second", 5000))
			check(t, c.Close(websocket.StatusNormalClosure, "bye"))
			if l := r.lines(1)[0]; l["status"] != 101.0 || l["path"] != "/chat" {
				t.Errorf("logged: %v", l)
			}
		})
	}
}

// An upstream of HTTP/2 in the clear has no upgrade: it is asked without, and is not held to have
// failed.
func TestAWebSocketToAnHTTP2UpstreamIsRefusedByThatUpstream(t *testing.T) {
	t.Parallel()
	r := to(t, nil, origin(t, "h2c", func(w http.ResponseWriter,
		r *http.Request) {
		w.WriteHeader(http.StatusUpgradeRequired)
	}))
	for range 5 {
		_, resp, err := websocket.Dial(shortly(t), "wss://"+shop,
			&websocket.DialOptions{HTTPClient: r.over("http/1.1")})
		if err == nil || resp == nil || resp.StatusCode != http.StatusUpgradeRequired {
			t.Fatal(resp, err)
		}
	}
}

// calls is a service whose trailers say what it has seen.
type calls struct {
	testgrpc.UnimplementedTestServiceServer
	cancelled chan struct{}
}

func (c *calls) UnaryCall(ctx context.Context, q *testgrpc.SimpleRequest) (*testgrpc.SimpleResponse, error) {
	in, _ := metadata.FromIncomingContext(ctx)
	grpc.SetHeader(ctx, metadata.Pairs("x-head", "1"))
	grpc.SetTrailer(ctx, metadata.Pairs("x-tail",
		strings.Join(in[":authority"], ",")+" "+strings.Join(in["x-forwarded-proto"], ",")))
	if q.ResponseStatus.GetCode() != 0 {
		return nil, status.Error(codes.Code(q.ResponseStatus.Code), q.ResponseStatus.Message)
	}
	return &testgrpc.SimpleResponse{Payload: q.Payload}, nil
}

func (c *calls) FullDuplexCall(s testgrpc.TestService_FullDuplexCallServer) error {
	s.SetTrailer(metadata.Pairs("x-tail", "over"))
	for {
		q, err := s.Recv()
		if err == io.EOF {
			return status.Error(codes.DataLoss, "as agreed: 100 %")
		} else if err != nil {
			close(c.cancelled)
			return err
		}
		if err := s.Send(&testgrpc.StreamingOutputCallResponse{Payload: q.Payload}); err != nil {
			return err
		}
	}
}

func TestGRPC(t *testing.T) {
	t.Parallel()
	for _, scheme := range []string{"h2c", "https"} {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			service := &calls{cancelled: make(chan struct{})}
			// A loaded machine may keep the edge from running for longer than short allows.
			patient := func(c *Config) { c.Timeouts.Body = 2 * time.Second }
			r := to(t, patient, grpcOrigin(t, scheme, service))
			conn, err := grpc.NewClient("passthrough:///"+r.addrs[0], grpc.WithAuthority(shop),
				grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: r.ca.Pool()})))
			check(t, err)
			defer conn.Close()
			client := testgrpc.NewTestServiceClient(conn)

			var head, tail metadata.MD
			big := &testgrpc.Payload{Body: make([]byte, 2<<20)}
			resp, err := client.UnaryCall(shortly(t), &testgrpc.SimpleRequest{Payload: big}, grpc.Header(&head),
				grpc.Trailer(&tail))
			check(t, err)
			if len(resp.Payload.Body) != len(big.Body) ||
				fmt.Sprint(head["x-head"], tail["x-tail"]) != "[1] ["+shop+" https]" {
				t.Errorf("%d bytes, %v, %v", len(resp.Payload.Body), head, tail)
			}
			_, err = client.UnaryCall(shortly(t), &testgrpc.SimpleRequest{ResponseStatus: &testgrpc.EchoStatus{Code: 5,
				Message: "no ünicode"}}, grpc.Trailer(&tail))
			if status.Code(err) != codes.NotFound || status.Convert(err).Message() != "no ünicode" ||
				len(tail["x-tail"]) != 1 {
				t.Errorf("%v, %v", err, tail)
			}

			stream, err := client.FullDuplexCall(shortly(t))
			check(t, err)
			for i := range 3 {
				check(t, stream.Send(&testgrpc.StreamingOutputCallRequest{
					Payload: &testgrpc.Payload{Body: []byte{byte(i)}},
				}))
				got, err := stream.Recv()
				check(t, err)
				if got.Payload.Body[0] != byte(i) {
					t.Errorf("%d: %v", i, got)
				}
				if i == 1 {
					time.Sleep(3 * r.proxy.cfg.Timeouts.Body / 2) // both sides are silent
				}
			}
			check(t, stream.CloseSend())
			if _, err = stream.Recv(); status.Code(err) != codes.DataLoss || stream.Trailer()["x-tail"][0] != "over" {
				t.Errorf("%v, %v", err, stream.Trailer())
			}

			ctx, cancel := context.WithCancel(shortly(t))
			stream, err = client.FullDuplexCall(ctx)
			check(t, err)
			check(t, stream.Send(&testgrpc.StreamingOutputCallRequest{}))
			_, err = stream.Recv()
			check(t, err)
			cancel()
			select {
			case <-service.cancelled:
			case <-time.After(20 * time.Second):
				t.Error("the upstream does not hear that the client has cancelled")
			}
		})
	}
}

// grpcOrigin is a gRPC server's own transport, not net/http's.
func grpcOrigin(t *testing.T, scheme string, service testgrpc.TestServiceServer) string {
	t.Helper()
	var options []grpc.ServerOption
	if scheme == "https" {
		pair := originPair(t)
		options = append(options, grpc.Creds(credentials.NewServerTLSFromCert(&pair)))
	}
	s := grpc.NewServer(options...)
	testgrpc.RegisterTestServiceServer(s, service)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	go s.Serve(ln)
	t.Cleanup(s.Stop)
	return scheme + "://" + ln.Addr().String()
}
