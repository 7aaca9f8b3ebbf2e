package edgeproxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"
)

// answered counts and logs an answer that net/http gives itself, since it takes no request of what
// came. b begins with the status line. The line in the log has what was kept of the request line.
func (l *listener) answered(c *http1, b []byte) {
	status := statusOf(b)
	if status == 0 {
		return
	}
	p := l.proxy
	p.metrics.request(status, 0)
	if !p.opts.Access.Enabled(p.requests, slog.LevelInfo) {
		return
	}
	method, path, proto := c.framing.requestLine(c.handled)
	cs := c.ConnectionState()
	attrs := append(make([]slog.Attr, 0, 12),
		slog.String("remote", c.RemoteAddr().String()), slog.String("method", method),
		slog.String("host", cs.ServerName), slog.String("path", path), slog.String("proto", proto),
		slog.Int("status", status), slog.Int64("bytes", int64(len(textOf(b)))), slog.Float64("ms", 0),
		slog.String("tls", tls.VersionName(cs.Version)), slog.Bool("resumed", cs.DidResume))
	if balancer := balancerOf(c); balancer != "" {
		attrs = append(attrs, slog.String("balancer", balancer))
	}
	p.opts.Access.LogAttrs(context.Background(), slog.LevelInfo, "request",
		append(attrs, slog.String("error", wordsOf(status, textOf(b))))...)
}

// statusOf reads the status of a response of HTTP/1. It is 0 if there is none.
func statusOf(b []byte) int {
	const before = len("HTTP/1.1 ")
	if len(b) < before+3 || !bytes.HasPrefix(b, []byte("HTTP/1.")) {
		return 0
	}
	n, _ := strconv.Atoi(string(b[before : before+3]))
	return n
}

// textOf returns the body of a response.
func textOf(b []byte) string {
	_, text, _ := bytes.Cut(b, []byte("\r\n\r\n"))
	return string(text)
}

// wordsOf says why net/http refuses a request.
func wordsOf(status int, text string) string {
	if _, why, ok := strings.Cut(text, ": "); ok && status == http.StatusBadRequest {
		return why
	}
	switch status {
	case http.StatusBadRequest:
		return "the head of the request is malformed"
	case http.StatusExpectationFailed:
		return "the client expects something other than 100-continue"
	case http.StatusRequestHeaderFieldsTooLarge:
		return "the header is larger than limits.header_bytes"
	case http.StatusNotImplemented:
		return "the transfer encoding is not chunked alone"
	case http.StatusHTTPVersionNotSupported:
		return "the version of HTTP is neither 1.0 nor 1.1"
	}
	return text
}

// requestLine returns what was kept of the last request line, if so many requests were handled
// before it. There is no query: it may be secret.
func (f *framing) requestLine(handled int) (method, path, proto string) {
	line := f.line[:f.lineLen]
	if !f.begun && f.heads == handled { // the line has no end
		line = f.part[:f.partLen]
	}
	method, rest, _ := strings.Cut(string(line), " ")
	target, proto, _ := strings.Cut(rest, " ")
	path, _, _ = strings.Cut(target, "?")
	if !utf8.ValidString(method) || strings.ContainsAny(method, "?=&") {
		method = "" // it is no method, and may hold anything
	}
	if !strings.HasPrefix(proto, "HTTP/") {
		proto = ""
	}
	return method, path, proto
}

// malformedHTTP2 are the errors of net/http for which a request over HTTP/2 is reset.
var malformedHTTP2 = map[string]string{
	"bad_path_method":       "a pseudo-header is missing, or the scheme is neither https nor http",
	"bad_connect":           "the pseudo-headers of CONNECT are wrong",
	"bad_path":              "the path is malformed",
	"userinfo_in_authority": "there is a user in the authority",
	"over_max_streams":      "there are more requests at once than limits.streams",
	"over_max_streams_race": "there are more requests at once than limits.streams",
}

// countError is called with each error of an HTTP/2 connection. It is not told which connection
// that is.
func (p *Proxy) countError(kind string) {
	for name, words := range malformedHTTP2 {
		if !strings.HasPrefix(kind, "stream_") || !strings.HasSuffix(kind, "_"+name) {
			continue
		}
		status := http.StatusBadRequest
		if strings.HasPrefix(name, "over_") {
			status = http.StatusTooManyRequests
		}
		p.metrics.request(status, 0)
		p.opts.Access.Info("request", "remote", "", "method", "", "host", "", "path", "", "proto", "HTTP/2.0",
			"status", status, "bytes", 0, "ms", 0.0, "error", words+"; the stream was reset")
		return
	}
}
