package server

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/lockstep-tls/lockstep/xds"
)

// pipe is a delta stream without a network. SendMsg blocks while out is full.
type pipe struct {
	grpc.ServerStream
	ctx context.Context
	in  chan *discoveryv3.DeltaDiscoveryRequest
	out chan *discoveryv3.DeltaDiscoveryResponse
}

func (p *pipe) Context() context.Context { return p.ctx }

func (p *pipe) RecvMsg(m any) error {
	select {
	case r, ok := <-p.in:
		if !ok {
			return io.EOF
		}
		proto.Merge(m.(proto.Message), r)
		return nil
	case <-p.ctx.Done():
		return status.FromContextError(p.ctx.Err()).Err()
	}
}

func (p *pipe) SendMsg(m any) error {
	d := new(discoveryv3.DeltaDiscoveryResponse)
	if err := proto.Unmarshal(m.(*response).parts.Materialize(), d); err != nil {
		return err
	}
	select {
	case p.out <- d:
		return nil
	case <-p.ctx.Done():
		return p.ctx.Err()
	}
}

// handle runs the server's side of a pipe as gRPC does: the context ends when the handler returns.
func handle(s *Server, p *pipe) <-chan error {
	ctx, err := cancellable(context.Background(), nil)
	if err != nil {
		panic(err)
	}
	p.ctx = ctx
	done := make(chan error, 1)
	go func() {
		done <- s.Delta(p, xds.ADS, "")
	}()
	return done
}

func newPipe() *pipe {
	return &pipe{in: make(chan *discoveryv3.DeltaDiscoveryRequest),
		out: make(chan *discoveryv3.DeltaDiscoveryResponse, 1000)}
}

func newServer(src *table, observe func(xds.Event)) *Server {
	return New(Config{Types: map[string]xds.Resources{testType: src}, Observe: observe})
}

func TestPeerThatRefusesEverythingIsAnsweredAtTheBackoffRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newTable()
		src.set("a", "1")
		s, p := newServer(src, nil), newPipe()
		done := handle(s, p)
		p.in <- req{sub: []string{"a"}}.delta()
		answers := 0
		end := time.After(time.Hour)
		for open := true; open; {
			select {
			case d := <-p.out:
				answers++
				p.in <- req{sub: []string{"a"}, nonce: d.Nonce, nack: "never"}.delta()
			case <-end:
				open = false
			}
		}
		// 1 + 2 + … + 256 s, then one in 5 min
		if answers < 15 || answers > 22 {
			t.Errorf("%d answers in an hour", answers)
		}
		close(p.in)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestBlockedSendEndsTheStreamAndHoldsNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newTable()
		all := names("n", 200)
		for _, n := range all {
			src.put(thing(n, "1", 10<<10), n)
		}
		var mu sync.Mutex
		var closed string
		s := newServer(src, func(e xds.Event) {
			mu.Lock()
			defer mu.Unlock()
			if e.Kind == xds.Closed {
				closed = e.Words
			}
		})
		p := newPipe()
		// takes one response, as the transport's quota would
		p.out = make(chan *discoveryv3.DeltaDiscoveryResponse, 1)
		done := handle(s, p)
		start := time.Now()
		p.in <- req{sub: all}.delta()
		synctest.Wait()
		views := s.Streams(t.Context(), Query{})
		if len(views) != 1 || views[0].Count != 200 || time.Since(start) != 0 {
			t.Errorf("a view while the send is blocked: %+v after %v", views, time.Since(start))
		}
		err := <-done
		if status.Code(err) != codes.DeadlineExceeded || time.Since(start) != 20*time.Second {
			t.Errorf("ended after %v: %v", time.Since(start), err)
		}
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		if s.Stats().CutOff != 1 || s.Stats().Streams != 0 || src.watched() != 0 ||
			!strings.Contains(closed, "has not read") {
			t.Errorf("%+v, %d watched, closed %q", s.Stats(), src.watched(), closed)
		}
	})
}

func TestSlowPeerGetsTheNewestWhenItReadsOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newTable()
		for _, n := range []string{"a", "b", "c"} {
			src.put(thing(n, "1", 200<<10), n)
		}
		s, p := newServer(src, nil), newPipe()
		p.out = make(chan *discoveryv3.DeltaDiscoveryResponse)
		done := handle(s, p)
		p.in <- req{sub: []string{"a"}}.delta()
		got := []*discoveryv3.DeltaDiscoveryResponse{<-p.out}
		// 200 KB are unacknowledged: these may block, and do
		p.in <- req{sub: []string{"b", "c"}}.delta()
		synctest.Wait()
		for _, v := range []string{"2", "3", "4"} {
			src.set("a", v)
			time.Sleep(time.Second)
		}
		for i, want := range []string{"a@1", "b@1", "c@1", "a@4"} {
			if i > 0 {
				got = append(got, <-p.out)
			}
			if r := got[i].Resources[0]; r.Name+"@"+r.Version != want {
				t.Errorf("response %d: %s@%s, want %s", i, r.Name, r.Version, want)
			}
		}
		time.Sleep(time.Minute)
		close(p.in)
		if err := <-done; err != nil {
			t.Errorf("a peer that read on was cut off: %v", err)
		}
	})
}

func TestDrainEndsStreamsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newTable()
		for _, n := range names("big", 3) {
			src.put(thing(n, "1", 200<<10), n)
		}
		s := newServer(src, nil)
		p := newPipe()
		p.out = make(chan *discoveryv3.DeltaDiscoveryResponse, 1)
		done := []<-chan error{handle(s, newPipe()), handle(s, p)}
		p.in <- req{sub: names("big", 3)}.delta() // the second response blocks
		synctest.Wait()
		if len(p.out) != 1 {
			t.Fatal("nothing is blocked")
		}
		start := time.Now()
		s.Drain()
		s.Drain()
		for _, d := range done {
			if err := <-d; status.Code(err) != codes.Unavailable {
				t.Error(err)
			}
		}
		if time.Since(start) != 0 {
			t.Errorf("took %v", time.Since(start))
		}
		if err := <-handle(s, newPipe()); status.Code(err) != codes.Unavailable {
			t.Errorf("a new stream: %v", err)
		}
	})
}

func TestDismissedNodesMayComeBackAfterAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(newTable(), nil)
		a, b := handle(s, newPipe()), handle(s, newPipe())
		synctest.Wait()
		if n := s.Dismiss(3 * time.Second); n != 2 {
			t.Errorf("%d streams ended", n)
		}
		for _, d := range []<-chan error{a, b} {
			if err := <-d; status.Code(err) != codes.Unavailable {
				t.Error(err)
			}
		}
		time.Sleep(3*time.Second - 1)
		if err := <-handle(s, newPipe()); status.Code(err) != codes.Unavailable {
			t.Errorf("a new stream, too early: %v", err)
		}
		time.Sleep(time.Nanosecond)
		p := newPipe()
		back := handle(s, p)
		synctest.Wait()
		close(p.in)
		if err := <-back; err != nil {
			t.Errorf("a new stream: %v", err)
		}
	})
}

func TestStreamsShowsWhereEachNameStands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newTable()
		src.absent("absent")
		for _, n := range []string{"ok", "bad", "slow"} {
			src.set(n, "1")
		}
		s, p := newServer(src, nil), newPipe()
		done := handle(s, p)
		reply := func(name, nack string) {
			p.in <- req{sub: []string{name}}.delta()
			d := <-p.out
			if name != "slow" {
				p.in <- req{nonce: d.Nonce, nack: nack}.delta()
			}
		}
		reply("absent", "")
		reply("ok", "")
		reply("bad", "no good")
		since := time.Now()
		reply("slow", "")
		state := func(q Query) map[string]string {
			synctest.Wait()
			got := make(map[string]string)
			for _, v := range s.Streams(t.Context(), q) {
				for _, n := range v.Names {
					got[n.Name] = n.State(time.Now())
					if n.Name == "bad" && (*n.Refused != Refusal{Version: "1", Words: "no good", Since: since}) {
						t.Errorf("refusal %+v", n.Refused)
					}
				}
			}
			return got
		}
		same := func(what string, got, want map[string]string) {
			t.Helper()
			if len(got) != len(want) {
				t.Errorf("%s: %v, want %v", what, got, want)
			}
			for n, st := range want {
				if got[n] != st {
					t.Errorf("%s: %s is %q, want %q", what, n, got[n], st)
				}
			}
		}
		same("at once", state(Query{}), map[string]string{"absent": "", "ok": "accepted", "bad": "refused",
			"slow": "sent"})
		time.Sleep(10 * time.Second)
		same("after 10 s", state(Query{Node: "n1"}),
			map[string]string{"absent": "", "ok": "accepted", "bad": "refused", "slow": "stale"})
		bad := Query{Keep: func(_ string, st NameState) bool { return st.Refused != nil }}
		same("refused only", state(bad), map[string]string{"bad": "refused"})
		same("another node", state(Query{Node: "n2"}), nil)
		close(p.in)
		<-done
	})
}

func TestFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newTable()
		src.set("a", "1")
		src.set("b", "2")
		src.absent("gone")
		s := newServer(src, nil)
		fetch := func(names ...string) (*discoveryv3.DiscoveryResponse, codes.Code) {
			r, err := s.Fetch(t.Context(),
				&discoveryv3.DiscoveryRequest{Node: testNode, TypeUrl: testType, ResourceNames: names}, xds.SDS)
			return r, status.Code(err)
		}
		if r, c := fetch("a"); c != codes.OK || r.VersionInfo != "1" || len(r.Resources) != 1 {
			t.Error(r, c)
		}
		if r, c := fetch("a", "gone", "b"); c != codes.OK || len(r.Resources) != 2 {
			t.Error(r, c)
		}
		for names, want := range map[string]codes.Code{"gone": codes.NotFound, "later": codes.Unavailable,
			strings.Repeat("x", 600): codes.NotFound} {
			if _, c := fetch(names); c != want {
				t.Errorf("%.10s: %v", names, c)
			}
		}
		if _, c := fetch(); c != codes.InvalidArgument {
			t.Error(c)
		}
		if _, err := s.Fetch(t.Context(), &discoveryv3.DiscoveryRequest{TypeUrl: testType},
			xds.SDS); status.Code(err) != codes.InvalidArgument {
			t.Error(err)
		}
		time.AfterFunc(time.Second, func() { src.set("soon", "1") })
		start := time.Now()
		if _, c := fetch("soon"); c != codes.OK || time.Since(start) != time.Second {
			t.Error(c, time.Since(start))
		}
		if src.watched() != 0 {
			t.Error("still watched")
		}
	})
}

func TestReceiverErrorEndsTheStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p := newServer(newTable(), nil), newPipe()
		done := handle(s, p)
		p.in <- &discoveryv3.DeltaDiscoveryRequest{TypeUrl: testType, ErrorDetail: &statuspb.Status{}}
		if err := <-done; status.Code(err) != codes.InvalidArgument || errors.Is(err, io.EOF) {
			t.Error(err)
		}
	})
}
