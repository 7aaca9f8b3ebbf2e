package edgeproxy

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"sync"
)

// forward makes the handler of a route.
func (p *Proxy) forward(u *upstream) http.Handler {
	return &httputil.ReverseProxy{
		Transport:    u,
		Rewrite:      p.rewrite,
		BufferPool:   &p.buffers,
		ErrorHandler: p.fail,
		ErrorLog:     log.New(io.Discard, "", 0), // the access log has what became of the request
	}
}

// rewrite sets X-Forwarded-For, -Host and -Proto. What a client says of itself there was taken away (httputil), and comes back where the client is trusted.
func (p *Proxy) rewrite(r *httputil.ProxyRequest) {
	if p.trusts(r.In.RemoteAddr) {
		r.Out.Header["X-Forwarded-For"] = r.In.Header["X-Forwarded-For"]
	}
	r.SetXForwarded()
	if p.trusts(r.In.RemoteAddr) {
		for _, h := range []string{"X-Forwarded-Host", "X-Forwarded-Proto"} {
			if v := r.In.Header.Values(h); len(v) > 0 {
				r.Out.Header[h] = v
			}
		}
	}
}

func (p *Proxy) trusts(remote string) bool {
	if len(p.TrustedProxies) == 0 {
		return false
	}
	at, err := netip.ParseAddrPort(remote)
	if err != nil {
		return false
	}
	for _, prefix := range p.TrustedProxies {
		if prefix.Contains(at.Addr().Unmap()) {
			return true
		}
	}
	return false
}

// fail answers a request that no upstream answered.
func (p *Proxy) fail(w http.ResponseWriter, r *http.Request, err error) {
	e := entryOf(r.Context())
	e.err = err
	if late := (net.Error)(nil); errors.Is(err, context.DeadlineExceeded) || errors.As(err, &late) && late.Timeout() {
		w.WriteHeader(http.StatusGatewayTimeout)
		return
	}
	w.WriteHeader(http.StatusBadGateway)
}

// buffers are what bodies are copied through.
type buffers struct{ pool sync.Pool }

const bufferSize = 32 << 10

func (b *buffers) Get() []byte {
	if v, ok := b.pool.Get().(*[bufferSize]byte); ok {
		return v[:]
	}
	return make([]byte, bufferSize)
}

func (b *buffers) Put(p []byte) {
	if len(p) == bufferSize {
		b.pool.Put((*[bufferSize]byte)(p))
	}
}
