package e2e

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// visit makes one request on the connection that is open.
func visit(c *http.ClientConn, host string) error {
	r, err := http.NewRequest(http.MethodGet, "https://"+host+"/", nil)
	if err != nil {
		return err
	}
	answer, err := c.RoundTrip(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if _, err := io.Copy(io.Discard, answer.Body); err != nil || answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %w", answer.Status, err)
	}
	return nil
}

// TestTenThousandIdleConnections: connections that have made a request and wait, half of HTTP/1.1
// and half of HTTP/2, cost at most 60 KB each, hinder nobody, nor a rotation, and are of use still
// after it.
func TestTenThousandIdleConnections(t *testing.T) {
	const n = 10_000
	t.Parallel()
	s := newStage(t, setup{})
	e, other := s.edge("edge-1", "timeouts: {idle: 10m}\n"), s.edge("edge-2", "")
	s.awaitReady()
	s.awaitPhase("steady", 2)
	a := s.clients(e, other)
	a.check("the start")

	base := s.resident(e)
	conns := make([]*http.ClientConn, n)
	t.Cleanup(func() {
		for _, c := range conns {
			if c != nil {
				c.Close()
			}
		}
	})
	var transports [2]*http.Transport
	for i := range transports {
		// Handshakes that resume are cheaper.
		config := &tls.Config{
			ServerName: s.hosts[0], RootCAs: s.ca.Pool(), ClientSessionCache: tls.NewLRUClientSessionCache(1),
		}
		transports[i] = &http.Transport{TLSClientConfig: config, Protocols: new(http.Protocols)}
		transports[i].Protocols.SetHTTP1(i == 0)
		transports[i].Protocols.SetHTTP2(i == 1)
	}
	began := time.Now()
	var g errgroup.Group
	g.SetLimit(8)
	for i := range n {
		g.Go(func() (err error) {
			if conns[i], err = transports[i%2].NewClientConn(s.ctx, "https", e.addr); err == nil {
				err = visit(conns[i], s.hosts[0])
			}
			if err != nil {
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
	s.mustRun("rotate", "--wait")
	a.awaitKeyInUse()
	a.cross("a rotation under 10 000 connections")
	for i, c := range conns {
		if err := visit(c, s.hosts[0]); err != nil {
			t.Fatalf("connection %d, after the rotation: %v", i, err)
		}
	}
}
