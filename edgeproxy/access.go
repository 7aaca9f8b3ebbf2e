package edgeproxy

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net/http"
	"time"
)

// entry is what the access log says of a request, besides the request itself.
type entry struct {
	status   int
	bytes    int64
	upstream string
	err      error
	body     *body  // of the request; nil if it has none
	quiet    bool   // it is not logged if it was answered with 200
	xfcc     string // what upstreams are told of the client's certificate; empty if it has none
}

type entryKey struct{}

// entryOf returns the entry of the request with this context.
func entryOf(ctx context.Context) *entry { return ctx.Value(entryKey{}).(*entry) }

// logRequest writes the line of a request that has ended.
func (p *Proxy) logRequest(r *http.Request, e *entry, took time.Duration) {
	p.metrics.request(e.status, took)
	if e.quiet && e.status == http.StatusOK {
		return
	}
	if !p.opts.Access.Enabled(r.Context(), slog.LevelInfo) {
		return
	}
	attrs := append(make([]slog.Attr, 0, 13),
		slog.String("remote", r.RemoteAddr), slog.String("method", r.Method), slog.String("host", r.Host),
		slog.String("path", r.URL.Path),
		slog.String("proto", r.Proto), slog.Int("status", e.status), slog.Int64("bytes", e.bytes),
		slog.Float64("ms", float64(took.Microseconds())/1000), slog.String("tls", tls.VersionName(r.TLS.Version)),
		slog.Bool("resumed", r.TLS.DidResume),
	)
	if balancer := balancerOf(connectionOf(r).Conn); balancer != "" {
		attrs = append(attrs, slog.String("balancer", balancer))
	}
	if e.upstream != "" {
		attrs = append(attrs, slog.String("upstream", e.upstream))
	}
	if e.err != nil {
		attrs = append(attrs, slog.String("error", e.err.Error()))
	}
	p.opts.Access.LogAttrs(r.Context(), slog.LevelInfo, "request", attrs...)
}
