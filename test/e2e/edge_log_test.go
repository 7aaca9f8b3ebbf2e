package e2e

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// talkative is an upstream that goes on after each response, which net/http then complains about.
func talkative(s *stage) string {
	s.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	s.ok(err)
	s.t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
					io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
					time.Sleep(50 * time.Millisecond) // the connection is idle by then
					io.WriteString(c, "and more\r\n")
					io.Copy(io.Discard, c)
				}
			}()
		}
	}()
	return ln.Addr().String()
}

// TestAnEdgeWritesNothingButJSON: whatever clients, upstreams, libraries and operators do, each
// line of standard output and standard error is JSON.
func TestAnEdgeWritesNothingButJSON(t *testing.T) {
	t.Parallel()
	s := newStage(t, setup{hosts: 1})
	e := s.place("edge-1")
	config := fmt.Sprintf("node: edge-1\nxds: %q\nadmin_listen: %q\nlog_level: debug\n"+
		"limits: {header_bytes: 4096}\nlisteners: [{address: %q}]\nroutes: [{upstreams: [\"http://%s\"]}]\n",
		s.plane.XDS, e.admin, e.addr, talkative(s))
	var err error
	e.Process, err = s.fleet.Edge(bin, "edge-1", []byte(config), e.admin)
	s.ok(err)
	s.awaitReady(e)

	send := func(addr, name, proto, text string) {
		t.Helper()
		c, err := net.Dial("tcp", addr)
		s.ok(err)
		defer c.Close()
		c.SetDeadline(time.Now().Add(20 * time.Second))
		var to io.ReadWriter = c
		if name != "" {
			to = tls.Client(c, &tls.Config{ServerName: name, RootCAs: s.ca.Pool(), NextProtos: []string{proto}})
		}
		io.WriteString(to, text)
		io.Copy(io.Discard, to)
	}
	const closing = " HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n%s\r\n"
	h1 := func(line, more string) {
		send(e.addr, s.hosts[0], "http/1.1", line+fmt.Sprintf(closing, s.hosts[0], more))
	}
	h1("GET /", "")
	h1("GET /a b", "")
	h1("OPTIONS *", "")
	h1("POST /", "Expect: x\r\n")
	h1("POST /", "Transfer-Encoding: gzip\r\n")
	h1("POST /", "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n")
	h1("GET /", "X: "+strings.Repeat("x", 20<<10)+"\r\n")
	send(e.addr, s.hosts[0], "h2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"+
		strings.Repeat("\x00\x00\x01\x07\x00\x00\x00\x00\x01x", 3))
	send(e.addr, s.hosts[0], "h2", "no preface of HTTP/2, but a long enough text")
	send(e.addr, "unknown.example", "h2", "")
	send(e.addr, "", "", "GET / HTTP/1.1\r\n\r\n")
	send(e.addr, "", "", "SSH-2.0-x\r\n")
	send(e.admin, "", "", "G@T / HTTP/1.1\r\n\r\n")
	said := func(what string) {
		t.Helper()
		s.eventually(func() error {
			if b, err := os.ReadFile(e.LogFile()); err != nil || !strings.Contains(string(b), what) {
				return fmt.Errorf("the log does not say %q (%v): %s", what, err, e.LogTail(5))
			}
			return nil
		})
	}
	said("Unsolicited response received")
	said("http2: ")
	said("have it use https://")

	s.file("edge-1.yaml", []byte(config+"nonsense: 1\n"))
	s.ok(e.Signal(syscall.SIGHUP))
	said("nonsense")
	s.ok(s.plane.Kill())
	s.ok(e.Stop(20 * time.Second))

	f, err := os.Open(e.LogFile())
	s.ok(err)
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	n := 0
	for ; lines.Scan(); n++ {
		var line map[string]any
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil || line["msg"] == nil || line["time"] == nil {
			t.Errorf("no JSON: %v: %s", err, lines.Bytes())
		}
	}
	s.ok(lines.Err())
	if n < 15 {
		t.Errorf("there are %d lines only:\n%s", n, e.LogTail(50))
	}
}
