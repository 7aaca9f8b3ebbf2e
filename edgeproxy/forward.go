package edgeproxy

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"strings"
	"sync"
)

// forward returns the handler of a route.
func (p *Proxy) forward(u *upstream) http.Handler {
	proxy := &httputil.ReverseProxy{
		Transport:      u,
		Rewrite:        p.rewrite,
		BufferPool:     &p.buffers,
		ModifyResponse: sound,
		ErrorHandler:   p.fail,
		ErrorLog:       log.New(io.Discard, "", 0), // the access log has the outcome of the request
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if rw, ok := w.(*response); ok {
			rw.wait(u.timeouts)
		}
		proxy.ServeHTTP(w, r)
	})
}

// rewrite changes what the upstream is sent.
func (p *Proxy) rewrite(r *httputil.ProxyRequest) {
	// Httputil has edited the query. No route looks at it, and it may be signed.
	r.Out.URL.RawQuery = r.In.URL.RawQuery
	// The map is filled as the body ends. A copy of it would not be.
	r.Out.Trailer = r.In.Trailer
	if up := r.Out.Header.Get("Upgrade"); up != "" && !strings.EqualFold(up, "websocket") {
		// With h2c, above all, a client would choose the upstream's next requests without a route.
		r.Out.Header.Del("Upgrade")
		r.Out.Header.Del("Connection")
	}
	p.tellClient(r)
}

// trusts reports whether remote is the address of a trusted proxy.
func (p *Proxy) trusts(remote string) bool { return within(p.cfg.TrustedProxies, remote) }

// statusGone is for the access log: the client left before it had an answer. It is nginx's number.
const statusGone = 499

// fail answers a request that no upstream answered.
func (p *Proxy) fail(w http.ResponseWriter, r *http.Request, err error) {
	e := entryOf(r.Context())
	client := e.body.failed()
	e.err = err
	switch {
	case p.requests.Err() != nil:
		w.WriteHeader(http.StatusServiceUnavailable)
	case client != nil && timedOut(client) && e.body.stream:
		// The upstream had all that the client sent. Either could have gone on.
		e.err = errBothSilent
		w.WriteHeader(http.StatusGatewayTimeout)
	case client != nil && timedOut(client): // this ends the context, too
		w.WriteHeader(http.StatusRequestTimeout)
	case r.Context().Err() != nil:
		w.WriteHeader(statusGone)
	case client != nil:
		w.WriteHeader(http.StatusBadRequest)
	case timedOut(err):
		w.WriteHeader(http.StatusGatewayTimeout)
	default:
		w.WriteHeader(http.StatusBadGateway)
		if rw, ok := w.(*response); ok {
			rw.linger()
		}
	}
}

var errBothSilent = errors.New("neither the client nor the upstream went on")

func timedOut(err error) bool {
	late := (net.Error)(nil)
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &late) && late.Timeout()
}

// buffers are the buffers through which bodies are copied.
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
