package admin

import (
	"archive/tar"
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-tls/lockstep/keysource/catalog"
	"github.com/lockstep-tls/lockstep/store/memory"
)

// pipes is a listener whose connections are in memory, and count as local.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	c, ok := <-p
	if !ok {
		return nil, net.ErrClosed
	}
	return local{c}, nil
}
func (p pipes) Close() error   { close(p); return nil }
func (p pipes) Addr() net.Addr { return &net.UnixAddr{Name: "test", Net: "unix"} }

type local struct{ net.Conn }

func (local) LocalAddr() net.Addr { return &net.UnixAddr{Name: "test", Net: "unix"} }

// begin sends the head of an import of size bytes, and some of its body.
func (p pipes) begin(t *testing.T, size int, body []byte) net.Conn {
	t.Helper()
	client, server := net.Pipe()
	p <- server
	if _, err := fmt.Fprintf(client, "POST /v1/certs/import HTTP/1.1\r\nHost: localhost\r\n"+
		"Authorization: Bearer t\r\nContent-Length: %d\r\n\r\n%s", size, body); err != nil {
		t.Fatal(err)
	}
	return client
}

func answerOf(t *testing.T, c net.Conn) (code int, body string) {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestAnImportThatBringsNothingGivesUpItsPlace(t *testing.T) {
	var empty bytes.Buffer
	if err := tar.NewWriter(&empty).Close(); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		quiet := slog.New(slog.DiscardHandler)
		listener := make(pipes)
		server := &http.Server{Handler: New(Config{
			Token: "t", Log: quiet, Metrics: http.NotFoundHandler(),
			Catalog: catalog.New(catalog.Config{Store: memory.New(), Log: quiet}),
		})}
		served := make(chan struct{})
		go func() { defer close(served); server.Serve(listener) }()
		began := time.Now()
		var stalled []net.Conn
		for range importsHeld {
			stalled = append(stalled, listener.begin(t, 1000, []byte("some")))
		}
		synctest.Wait()
		next := listener.begin(t, empty.Len(), empty.Bytes())
		time.Sleep(maxStall / 2)
		if _, err := stalled[0].Write([]byte("more")); err != nil { // slow is not stalled
			t.Fatal(err)
		}
		if code, body := answerOf(t, next); code != http.StatusOK || time.Since(began) != maxStall {
			t.Errorf("the next one: %d %s after %s", code, body, time.Since(began))
		}
		for i, c := range stalled {
			if code, body := answerOf(t, c); code != http.StatusRequestTimeout ||
				!strings.Contains(body, "nothing came for 30s") {
				t.Errorf("stalled: %d %s", code, body)
			}
			if want := maxStall; i == 0 && time.Since(began) != want+maxStall/2 {
				t.Errorf("the slow one ended after %s", time.Since(began))
			}
			c.Close()
		}
		next.Close()
		server.Close()
		<-served
	})
}
