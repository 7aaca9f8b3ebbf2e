package edgeproxy

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lockstep-tls/lockstep/edgeproxy/ticket"
	"github.com/lockstep-tls/lockstep/keysource"
)

const (
	// addressWithin is how long a client that can be served otherwise waits to learn whether there
	// is a certificate for the address to which it connected.
	addressWithin = 250 * time.Millisecond
	// addressAgain is how long clients do not wait after the control plane did not answer.
	addressAgain = 5 * time.Second
	// addressAbsent is how long it is believed that an address has no certificate. Health checks
	// come all the time, and where a policy denies the address, each question is a line in a log.
	addressAbsent = time.Minute
	// maxAddresses bounds of how many addresses that is remembered. A balancer may tell many.
	maxAddresses = 1000
)

// withoutCertificate are addresses that have none, and until when that is believed.
type withoutCertificate struct {
	lasts atomic.Int64 // how long, as a duration

	mu    sync.Mutex
	until map[keysource.Name]time.Time
}

func (w *withoutCertificate) has(n keysource.Name) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Now().Before(w.until[n])
}

func (w *withoutCertificate) add(n keysource.Name) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.until == nil || len(w.until) >= maxAddresses {
		w.until = make(map[keysource.Name]time.Time)
	}
	w.until[n] = time.Now().Add(time.Duration(w.lasts.Load()))
}

// byAddress has the configurations for clients that name no server, by the address to which they
// connected. A configuration is made when it is needed, so there is one for each certificate of an
// address at most.
type byAddress struct {
	keys ticket.Keys

	mu      sync.Mutex
	configs map[keysource.Name]*configs
}

// forAddress returns the configurations for clients that connected to an address and named no
// server. Their sessions do not resume at another address.
func (l *listener) forAddress(n keysource.Name) *configs {
	b := l.addressed.Load()
	b.mu.Lock()
	defer b.mu.Unlock()
	if c := b.configs[n]; c != nil {
		return c
	}
	of := func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		c, err := l.bestOf(hello, n)
		if err != nil {
			return nil, noCertificate{err}
		}
		return c, nil
	}
	with := func(protocols []string) *tls.Config {
		c := l.withoutKeys(protocols)
		c.GetCertificate = of
		b.keys.Install(c, l.terms.ID().At(n), func(string) bool { return l.proxy.opts.Certificates.Serves(n) })
		return c
	}
	early := func(protocols []string) *tls.Config {
		c := l.onlyTLS12(protocols)
		c.GetCertificate = of
		return c
	}
	all := &configs{usual: choice{with(protocols), with(nil)}, early: choice{early(protocols), early(nil)}}
	if b.configs == nil {
		b.configs = make(map[keysource.Name]*configs)
	}
	b.configs[n] = all
	return all
}

// namelessAt returns the address to which a client connected that names no server, if there is a
// certificate for it. It is empty otherwise.
func (l *listener) namelessAt(hello *tls.ClientHelloInfo) keysource.Name {
	if hello.ServerName != "" {
		return ""
	}
	return l.addressOf(hello.Context(), hello.Conn.LocalAddr())
}

// addressOf returns the address to which a client connected, if there is a certificate for it. It
// is empty otherwise.
func (l *listener) addressOf(ctx context.Context, local net.Addr) keysource.Name {
	at, ok := local.(*net.TCPAddr)
	if !ok {
		return ""
	}
	addr := at.AddrPort().Addr()
	if !addr.IsValid() {
		return ""
	}
	if n := keysource.AddressName(addr); l.certified(ctx, n) {
		return n
	}
	return ""
}

// certified reports whether there is a certificate for an address. If the client can be served
// otherwise, it does not wait long for a control plane that does not answer.
func (l *listener) certified(ctx context.Context, n keysource.Name) bool {
	if l.bare.has(n) {
		return false
	}
	if l.fallback != "" || l.HealthPath != "" {
		wait := addressWithin
		if time.Now().UnixNano() < l.unanswered.Load() {
			wait = 0
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, wait)
		defer cancel()
		defer func() {
			if wait > 0 && context.Cause(ctx) == context.DeadlineExceeded {
				l.unanswered.Store(time.Now().Add(addressAgain).UnixNano())
			}
		}()
	}
	_, err := l.proxy.opts.Certificates.Certificate(ctx, n)
	if err != nil && ctx.Err() == nil && !l.proxy.opts.Certificates.Serves(n) {
		l.bare.add(n)
	}
	return err == nil
}

// nameless returns the certificate of a client that named no server. It is that of the address to
// which it connected, or else the fallback's.
func (l *listener) nameless(ctx context.Context, local net.Addr) (*tls.Certificate, error) {
	n := l.addressOf(ctx, local)
	if n == "" {
		n = l.fallback
	}
	if n == "" {
		return nil, errNoName
	}
	return l.proxy.opts.Certificates.Certificate(ctx, n)
}

// localAddr returns the address to which the client of a request connected.
func localAddr(r *http.Request) net.Addr {
	a, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	return a
}
