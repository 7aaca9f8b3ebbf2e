package e2e

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/test/traffic"
)

// customer is a client that makes one connection after another to an address, each with the session
// of the one before, and tries again when that fails. It keeps its session through failures.
type customer struct {
	addr, host string
	tls        *tls.Config

	mu      sync.Mutex
	session *tls.ClientSessionState
	maker   string // who gave it
	at      string // who served it last
	when    time.Time
	failing time.Time // the start of the first attempt that failed since then; zero: none has
	longest time.Duration
	total   tally
	latest  tally
	failure error
}

// impatience is how long a client waits for an answer. It counts where the active one had taken the
// request: nobody tells the client that there will be no answer.
const impatience = 800 * time.Millisecond

// tally is what became of attempts.
// crossed: resumed at another than made the session
type tally struct{ resumed, crossed, full, failed int }

// come starts clients, that many of each kind, which leave with the test.
func (p *pair) come(each int) {
	p.t.Helper()
	ctx, cancel := context.WithCancel(p.ctx)
	var busy sync.WaitGroup
	p.t.Cleanup(func() { cancel(); busy.Wait() })
	for version := range traffic.Kinds {
		for range each {
			c := &customer{addr: net.JoinHostPort(p.vip, failoverPort), host: p.hosts[0]}
			c.tls = &tls.Config{
				ServerName: c.host, RootCAs: p.ca.Pool(), MinVersion: version,
				MaxVersion: version, ClientSessionCache: c,
			}
			p.clients = append(p.clients, c)
			busy.Go(func() {
				for ctx.Err() == nil {
					c.visit(ctx)
					time.Sleep(10 * time.Millisecond)
				}
			})
		}
	}
}

// visit makes one connection and one request.
func (c *customer) visit(ctx context.Context) {
	c.mu.Lock()
	holds, maker := c.session != nil, c.maker
	c.mu.Unlock()
	began := time.Now()
	by, resumed, err := c.get(ctx)
	if ctx.Err() != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.total.failed++
		c.latest.failed++
		c.failure = err
		if c.failing.IsZero() {
			c.failing = began
		}
		return
	}
	if !c.failing.IsZero() {
		c.longest, c.failing = max(c.longest, time.Since(c.failing)), time.Time{}
	}
	c.at, c.when, c.maker = by, began, by
	switch {
	case resumed:
		c.total.resumed++
		c.latest.resumed++
		if maker != by {
			c.total.crossed++
			c.latest.crossed++
		}
	case holds:
		c.latest.full++
		fallthrough
	default:
		c.total.full++
	}
}

func (c *customer) get(ctx context.Context) (by string, resumed bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, impatience)
	defer cancel()
	// A SYN that is lost is sent again after a second.
	raw, err := (&net.Dialer{Timeout: impatience / 4}).DialContext(ctx, "tcp", c.addr)
	if err != nil {
		return "", false, err
	}
	defer raw.Close()
	defer context.AfterFunc(ctx, func() { raw.SetDeadline(time.Unix(1, 0)) })()
	conn := tls.Client(raw, c.tls)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+c.host+"/", nil)
	if err != nil {
		return "", false, err
	}
	req.Close = true
	if err := req.Write(conn); err != nil {
		return "", false, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), req)
	if err != nil {
		return "", false, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, b)
	}
	return string(b), conn.ConnectionState().DidResume, err
}

// Get implements [tls.ClientSessionCache].
func (c *customer) Get(string) (*tls.ClientSessionState, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.session, c.session != nil
}

// Put implements [tls.ClientSessionCache]. A nil session is crypto/tls giving up one whose
// handshake broke off: it was not the session's fault.
func (c *customer) Put(_ string, s *tls.ClientSessionState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s != nil {
		c.session = s
	}
}

// served returns nil if a connection that began after since was served by that proxy, and was the
// latest.
func (c *customer) served(by string, since time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.at != by || c.when.Before(since) {
		return fmt.Errorf("%s client: served by %q %s ago, want %s; its latest failure: %v",
			traffic.Kinds[c.tls.MinVersion], c.at, time.Since(c.when).Round(time.Millisecond), by, c.failure)
	}
	return nil
}

// forget begins a new account.
func (c *customer) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.latest, c.longest, c.failing = tally{}, 0, time.Time{}
}

// check demands that since forget the client's session went along from one proxy to the other, and
// that no session was refused; it returns how long the client was without service, and what became
// of its attempts.
func (c *customer) check(t *testing.T, what, from, to string) (without time.Duration, latest tally) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.latest.full > 0 {
		t.Errorf("%s: a %s client that held a ticket had to make %d full handshakes",
			what, traffic.Kinds[c.tls.MinVersion], c.latest.full)
	}
	if c.latest.crossed == 0 {
		t.Errorf("%s: a %s client did not resume at %s what %s had made: %+v",
			what, traffic.Kinds[c.tls.MinVersion], to, from, c.latest)
	}
	if c.longest > time.Second {
		t.Logf("%s: a %s client was without service for %s; it says: %v",
			what, traffic.Kinds[c.tls.MinVersion], c.longest.Round(time.Millisecond), c.failure)
	}
	return c.longest, c.latest
}

// account demands that the client's first handshake was its only full one.
func (c *customer) account(t *testing.T) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	t.Logf("%s client: %+v", traffic.Kinds[c.tls.MinVersion], c.total)
	if c.total.full != 1 {
		t.Errorf("a %s client made %d full handshakes, want the first one only",
			traffic.Kinds[c.tls.MinVersion], c.total.full)
	}
}
