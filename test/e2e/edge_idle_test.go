package e2e

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/sync/errgroup"
)

// visitor has a connection open, which it uses now and then.
type visitor interface {
	RoundTrip(*http.Request) (*http.Response, error)
}

// plainVisitor speaks HTTP/1.1, one request at a time.
type plainVisitor struct {
	conn net.Conn
	read *bufio.Reader
}

func (v plainVisitor) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Write(v.conn); err != nil {
		return nil, err
	}
	return http.ReadResponse(v.read, r)
}

// visit makes one request on the connection that is open.
func visit(v visitor, host string) error {
	r, err := http.NewRequest(http.MethodGet, "https://"+host+"/", nil)
	if err != nil {
		return err
	}
	answer, err := v.RoundTrip(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if _, err := io.Copy(io.Discard, answer.Body); err != nil || answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %w", answer.Status, err)
	}
	return nil
}

// TestTenThousandIdleConnections: connections that have made a request and wait, half of HTTP/1.1 and half of HTTP/2, cost at most 60 KB each, hinder nobody, nor a
// rotation, and are of use still after it.
func TestTenThousandIdleConnections(t *testing.T) {
	const n = 10_000
	t.Parallel()
	s := set(t, play{})
	e, other := s.edge("edge-1", "timeouts: {idle: 10m}\n"), s.edge("edge-2", "")
	s.ready()
	s.phase("steady", 2)
	a := s.clients(e, other)
	a.check("the start")

	base := s.resident(e)
	visitors, conns := make([]visitor, n), make([]net.Conn, n)
	t.Cleanup(func() {
		for _, c := range conns {
			if c != nil {
				c.Close()
			}
		}
	})
	began := time.Now()
	configs := map[string]*tls.Config{} // resumed handshakes are cheaper
	for _, protocol := range []string{"http/1.1", "h2"} {
		configs[protocol] = &tls.Config{ServerName: s.hosts[0], RootCAs: s.ca.Pool(), NextProtos: []string{protocol}, ClientSessionCache: tls.NewLRUClientSessionCache(1)}
	}
	var g errgroup.Group
	g.SetLimit(8)
	for i := range n {
		g.Go(func() error {
			protocol := []string{"http/1.1", "h2"}[i%2]
			c, err := tls.Dial("tcp", e.addr, configs[protocol])
			if err != nil {
				return fmt.Errorf("connection %d: %w", i, err)
			}
			conns[i] = c
			if protocol == "h2" {
				if visitors[i], err = (&http2.Transport{}).NewClientConn(c); err != nil {
					return fmt.Errorf("connection %d: %w", i, err)
				}
			} else {
				visitors[i] = plainVisitor{c, bufio.NewReaderSize(c, 512)}
			}
			if err := visit(visitors[i], s.hosts[0]); err != nil {
				return fmt.Errorf("connection %d: %w", i, err)
			}
			return nil
		})
	}
	s.ok(g.Wait())
	opened := time.Since(began)
	a.check("10 000 connections")

	each := float64(s.resident(e)-base) / n
	t.Logf("%d connections after %v, %.1f KB each", n, opened.Round(time.Millisecond), each)
	if each > 60 {
		t.Errorf("an idle connection costs %.1f KB", each)
	}
	s.done("rotate", "--wait")
	a.inUse()
	a.cross("a rotation under 10 000 connections")
	for i, v := range visitors {
		if err := visit(v, s.hosts[0]); err != nil {
			t.Fatalf("connection %d, after the rotation: %v", i, err)
		}
	}
}
