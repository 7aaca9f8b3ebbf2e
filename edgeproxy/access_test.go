package edgeproxy

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
)

func TestTheAccessLogSaysWhatHappenedAndNoSecret(t *testing.T) {
	t.Parallel()
	up := origin(t, "http", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Set-Cookie", "secret")
		w.WriteHeader(203)
		io.WriteString(w, "twelve bytes")
	})
	r := to(t, func(c *Config) {
		c.Routes = append(c.Routes, Route{Host: "*", Path: "/gone", Upstreams: []string{nowhereAt(t, "http")}})
	}, up)
	secret := func(q *http.Request) {
		q.Header = http.Header{"Authorization": {"Bearer secret"}, "Cookie": {"a=secret"}, "X-Api-Key": {"secret"}}
	}
	c := r.over("h2")
	r.do(c, "POST", "/a%0A%1b%5B31m%22b?token=secret", strings.NewReader("secret"), secret)
	r.do(c, "GET", "/gone?secret", nil, secret)
	r.do(c, "GET", "/x/%2e%2e/y?secret", nil, secret)
	lines := r.lines(3)
	for i, want := range []map[string]any{
		{"method": "POST", "host": shop, "path": "/a\n\x1b[31m\"b", "proto": "HTTP/2.0", "status": 203.0,
			"bytes": 12.0, "tls": "TLS 1.3", "resumed": false, "upstream": strings.TrimPrefix(up, "http://"),
			"error": nil},
		{"path": "/gone", "status": 502.0, "upstream": nil},
		{"path": "/x/../y", "status": 400.0, "error": errPath.Error()},
	} {
		for k, v := range want {
			if lines[i][k] != v {
				t.Errorf("line %d: %s is %v, not %v", i, k, lines[i][k], v)
			}
		}
		if _, ok := lines[i]["ms"].(float64); !ok || !strings.HasPrefix(fmt.Sprint(lines[i]["remote"]), "127.0.0.1:") {
			t.Errorf("line %d: %v", i, lines[i])
		}
	}
	if keys := fmt.Sprint(slices.Sorted(maps.Keys(lines[1]))); keys != "[bytes error host level method ms msg "+
		"path proto remote resumed status time tls]" {
		t.Errorf("fields: %s", keys)
	}
	text := r.log.String()
	if strings.Contains(text, "secret") || strings.ContainsAny(text, "\x1b\r") || strings.Count(text, "\n") != 3 {
		t.Errorf("%q", text)
	}
	for metric, want := range map[string]float64{
		"lockstep_edge_requests_total": 3, "lockstep_edge_request_seconds": 3,
		"lockstep_edge_handshakes_full_total": 1, "lockstep_edge_handshakes_resumed_total": 0,
		"lockstep_edge_handshakes_failed_total": 0,
	} {
		if got := r.count(metric); got != want {
			t.Errorf("%s: %v, not %v", metric, got, want)
		}
	}
}

func TestAClientThatLeavesIsNoFailureOfTheUpstream(t *testing.T) {
	t.Parallel()
	here := make(chan struct{})
	r := to(t, nil, origin(t, "http", func(_ http.ResponseWriter,
		r *http.Request) {
		close(here)
		<-r.Context().Done()
	}))
	c := r.dial(shop, "http/1.1")
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n")
	<-here
	c.Close()
	if l := r.lines(1)[0]; l["status"] != float64(statusGone) {
		t.Errorf("%v", l)
	}
}
