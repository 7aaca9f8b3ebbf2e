package edgeproxy

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

func TestADrainEndsWhatIsOpenAndAcceptsNothing(t *testing.T) {
	t.Parallel()
	begun, release := make(chan string, 10), make(chan struct{})
	up := origin(t, "http", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/chat" {
			echoSocket(w, r)
			return
		}
		fmt.Fprintln(w, "begun")
		http.NewResponseController(w).Flush()
		begun <- r.URL.Path
		if r.URL.Path == "/stream" {
			<-r.Context().Done() // for ever
			return
		}
		<-release
		fmt.Fprintln(w, "ended")
	})
	r := to(t, func(c *Config) { c.Timeouts.Drain = 1500 * time.Millisecond }, up)
	chat := socket(r)
	say(t, chat, "before")
	idle := r.dial(shop, "http/1.1")
	fmt.Fprint(idle, "GET /none HTTP/1.1\r\nHost: other.example\r\n\r\n")
	if l, _ := bufio.NewReader(idle).ReadString('\n'); l != "HTTP/1.1 421 Misdirected Request\r\n" {
		t.Fatal(l)
	}
	bodies := make(chan string, 2)
	for _, proto := range protos {
		resp, err := r.over(proto).Get("https://" + shop + "/" + proto)
		check(t, err)
		<-begun
		go func() {
			b, err := io.ReadAll(resp.Body)
			bodies <- fmt.Sprintf("%s %v", b, err)
		}()
	}
	stream, err := r.over("h2").Get("https://" + shop + "/stream")
	check(t, err)
	<-begun
	f := r.raw()
	f.request(1, true, ":path", "/raw")
	<-begun

	stopped, start := make(chan struct{}), time.Now()
	go func() {
		r.stop() // fails the test where Run returns an error
		close(stopped)
	}()
	r.until("new connections are refused", func() bool {
		c, err := net.Dial("tcp", r.addrs[0])
		if err == nil {
			c.Close()
		}
		return errors.Is(err, syscall.ECONNREFUSED)
	})
	t.Logf("the listener was closed after %v", time.Since(start))
	closed(t, idle)
	f.await(func(fr http2.Frame) bool { g, ok := fr.(*http2.GoAwayFrame); return ok && g.ErrCode == 0 })
	say(t, chat, "while it drains")
	close(release)
	for range protos {
		if got := <-bodies; got != "begun\nended\n <nil>" {
			t.Errorf("a request that had begun: %q", got)
		}
	}
	select {
	case <-stopped:
		t.Errorf("it ended after %v, with a stream and a WebSocket open", time.Since(start))
	default:
	}
	if b, err := io.ReadAll(stream.Body); err == nil {
		t.Errorf("a stream that was cut off ends as though it were whole: %q", b)
	}
	stream.Body.Close()
	if _, _, err := chat.Read(shortly(t)); err == nil {
		t.Error("the WebSocket is still open")
	}
	<-stopped
	if took := time.Since(start); took < r.proxy.cfg.Timeouts.Drain {
		t.Errorf("what was left was cut off after %v, and had %v", took, r.proxy.cfg.Timeouts.Drain)
	} else {
		t.Logf("it ended after %v of %v", took, r.proxy.cfg.Timeouts.Drain)
	}
}

func TestADrainWithoutRequestsEndsAtOnce(t *testing.T) {
	t.Parallel()
	r := to(t, nil, "http://127.0.0.1:1")
	for _, proto := range protos {
		r.do(r.over(proto), "GET", "/", nil) // leaves an idle connection
	}
	start := time.Now()
	r.stop()
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
}

// A client on a slow line loses no connection when another process takes over.
func TestADrainLetsASlowHandshakeEnd(t *testing.T) {
	t.Parallel()
	r := to(t, nil, origin(t, "http", empty))
	raw, err := net.Dial("tcp", r.addrs[0])
	check(t, err)
	t.Cleanup(func() { raw.Close() })
	raw.SetDeadline(time.Now().Add(20 * time.Second))
	_, err = raw.Write(hello(shop))
	check(t, err)
	_, err = raw.Read(make([]byte, 1)) // the edge has begun its part
	check(t, err)
	const slow = 1500 * time.Millisecond
	begun := time.Now()
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.stop()
	}()
	raw.SetReadDeadline(begun.Add(slow))
	_, err = io.Copy(io.Discard, raw)
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the connection ended after %s: %v", time.Since(begun), err)
	}
	raw.Close()
	<-done
}

func TestADrainDoesNotWaitForAHeaderOfTheProxyProtocol(t *testing.T) {
	t.Parallel()
	r := to(t, func(c *Config) {
		balancers(c)
		c.Timeouts.Header, c.Timeouts.Drain = time.Minute, 300*time.Millisecond
	}, origin(t, "http", empty))
	all := r.halve()
	begun, err := net.Dial("tcp", r.addrs[0]) // this one waits in its handshake
	check(t, err)
	t.Cleanup(func() { begun.Close() })
	_, err = begun.Write(append([]byte("PROXY UNKNOWN\r\n"), hello(shop)...))
	check(t, err)
	_, err = begun.Read(make([]byte, 1))
	check(t, err)
	r.stop() // fails the test where it does not end
	for _, c := range append(all, begun) {
		closed(t, c)
	}
	if own := r.own.String(); strings.Contains(own, `"reason"`) {
		t.Errorf("the clients are blamed:\n%s", own)
	}
}

func TestADrainEndsWebSocketsWhereNothingElseIsOpen(t *testing.T) {
	t.Parallel()
	r := to(t, func(c *Config) { c.Timeouts.Drain = 300 * time.Millisecond }, origin(t, "http", echoSocket))
	chat := socket(r)
	say(t, chat, "before")
	start := time.Now()
	r.stop() // fails the test where it does not end
	if _, _, err := chat.Read(shortly(t)); err == nil {
		t.Error("the WebSocket is still open")
	}
	t.Logf("it ended after %v of %v", time.Since(start), r.proxy.cfg.Timeouts.Drain)
}
