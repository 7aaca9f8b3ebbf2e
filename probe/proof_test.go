package probe

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
)

// named has a server's tickets begin with the name of their key, as Envoy's do.
func named(key byte, more func(*tls.Config)) func(*tls.Config) {
	name := bytes.Repeat([]byte{key}, 16)
	return func(c *tls.Config) {
		c.WrapSession = func(s tls.ConnectionState, ss *tls.SessionState) ([]byte, error) {
			b, err := c.EncryptTicket(s, ss)
			return append(bytes.Clone(name), b...), err
		}
		c.UnwrapSession = func(b []byte, s tls.ConnectionState) (*tls.SessionState, error) {
			if !bytes.HasPrefix(b, name) {
				return nil, nil
			}
			return c.DecryptTicket(b[16:], s)
		}
		if more != nil {
			more(c)
		}
	}
}

func keyID(key byte) string { return keysource.TicketKeyID(bytes.Repeat([]byte{key}, 16)) }

// accepting hands each connection to handle, and closes it afterwards.
func accepting(t *testing.T, handle func(net.Conn)) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	t.Cleanup(func() { l.Close(); all.Wait() })
	all.Go(func() {
		for c, err := l.Accept(); err == nil; c, err = l.Accept() {
			all.Go(func() {
				defer c.Close()
				handle(c)
			})
		}
	})
	return l.Addr().String()
}

// demandingProxies passes on what comes after a header of that version of the PROXY protocol, and
// closes every other connection, as Envoy's listener filter does.
func demandingProxies(t *testing.T, version int, to string) (addr string) {
	return accepting(t, func(c net.Conn) {
		header := proxyHeaders[version]
		head := make([]byte, len(header))
		if _, err := io.ReadFull(c, head); err != nil || string(head) != header {
			return
		}
		up, err := net.Dial("tcp", to)
		if err != nil {
			return
		}
		var back sync.WaitGroup
		back.Go(func() { io.Copy(c, up); c.Close() })
		io.Copy(up, c)
		up.Close()
		back.Wait()
	})
}

func prover() *Prover {
	p := NewProver()
	p.pause = 10 * time.Millisecond
	return p
}

func TestANodeIsProvedByEveryHostInBothVersions(t *testing.T) {
	cert, _ := certify(t)
	standIn, _ := certifyBy(t, "a stand-in")
	as := func(cert tls.Certificate, key, secret byte, more func(*tls.Config)) string {
		addr, _ := serve(t, cert, secret, named(key, more))
		return addr
	}
	node := func(key, secret byte, more func(*tls.Config)) string { return as(cert, key, secret, more) }
	good, twin := node(1, 1, nil), node(1, 1, nil)
	old := node(2, 2, nil)  // it encrypts with another key
	liar := node(1, 9, nil) // a key of that name, with other bytes
	// it refused the certificate that the others took, so their tickets cannot resume there
	cured := as(standIn, 1, 8, nil)
	silent := node(1, 1, func(c *tls.Config) { c.SessionTicketsDisabled = true })
	asks := node(1, 1, func(c *tls.Config) { c.ClientAuth = tls.RequireAnyClientCert })
	may := node(1, 1, func(c *tls.Config) { c.ClientAuth = tls.RequestClientCert })
	tls13 := node(1, 1, func(c *tls.Config) { c.MinVersion = tls.VersionTLS13 })
	spoilt := node(1, 1, func(c *tls.Config) { // one of its hosts goes on with the key that it had
		stale := c.Clone()
		stale.SetSessionTicketKeys([][32]byte{{2}})
		named(2, nil)(stale)
		c.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
			if h.ServerName == "blog.example" {
				return stale, nil
			}
			return nil, nil
		}
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := l.Addr().String()
	l.Close()
	closes := accepting(t, func(net.Conn) {}) // as Envoy does for a chain without secrets
	behind := demandingProxies(t, 2, good)
	hosts := func(names ...string) (out []Host) {
		for _, n := range names {
			out = append(out, Host{Name: n, Others: []string{gone, old, twin}})
		}
		return out
	}
	others := []Host{{Name: host, Others: []string{cured, twin}}}
	for what, c := range map[string]struct {
		addr  string
		hosts []Host
		want  Finding
		words []string
	}{
		"all is well": {good, hosts(host, "blog.example", "*.wild.example"), Proved,
			[]string{"3 hosts"}},
		"nobody to compare with": {good, []Host{{Name: host}}, Proved, []string{"no other node"}},
		"no host":                {good, nil, Unproved, []string{"no host"}},
		"another key":            {old, hosts(host), Disproved, []string{host, keyID(2), keyID(1)}},
		"one host of several": {spoilt, hosts(host, "blog.example"), Disproved,
			[]string{"blog.example", keyID(2)}},
		"equal names, unequal bytes": {liar, hosts(host), Disproved, []string{host, twin, "does not resume"}},
		"another certificate": {cured, hosts(host), Proved,
			[]string{"no other node with the same certificates"}},
		"one of several has another":              {good, others, Proved, []string{"1 hosts, TLS 1.2 and 1.3"}},
		"another certificate, then unequal bytes": {liar, others, Disproved, []string{twin, "does not resume"}},
		"no tickets":                    {silent, hosts(host), Disproved, []string{host, "no session ticket"}},
		"it demands a certificate":      {asks, hosts(host), Unproved, []string{"asks for a client certificate"}},
		"it would take one":             {may, hosts(host), Proved, nil},
		"TLS 1.3 alone":                 {tls13, hosts(host), Proved, nil},
		"it is not there":               {gone, hosts(host), Unproved, []string{host, "cannot be reached from here"}},
		"it demands the PROXY protocol": {behind, hosts(host), Proved, []string{"1 hosts, TLS 1.2 and 1.3"}},
		"it closes each connection":     {closes, hosts(host), Disproved, []string{host, "TLS handshake"}},
	} {
		p := prover().Prove(t.Context(), Subject{Addr: c.addr, Hosts: c.hosts, Keys: []string{keyID(7), keyID(1)}})
		if p.Finding != c.want || p.At.IsZero() {
			t.Errorf("%s: %d (%s), want %d", what, p.Finding, p.Words, c.want)
		}
		for _, w := range c.words {
			if !strings.Contains(p.Words, w) {
				t.Errorf("%s: %q does not say %q", what, p.Words, w)
			}
		}
	}
}

// Envoy binds a ticket to all certificates of a chain. While the chain of one node names two, and
// that of another one, tickets do not pass between them, and no node is to blame.
func TestNodesWithDifferentSecondCertificatesAreNotCompared(t *testing.T) {
	ec, _ := certify(t)
	rsa := certifyRSA(t)
	node := func(secret byte, second *tls.Certificate, more func(*tls.Config)) string {
		addr, _ := serve(t, ec, secret, named(1, func(c *tls.Config) {
			if second != nil {
				c.Certificates = append(c.Certificates, *second)
			}
			if more != nil {
				more(c)
			}
		}))
		return addr
	}
	foreign := certifyRSABy(t, "another issuer")
	// The secret stands for what Envoy binds a ticket to.
	one, both, twin, apart, liar := node(1, nil, nil), node(2, &rsa, nil), node(2, &rsa, nil), node(3, &foreign, nil),
		node(9, &rsa, nil)
	only13 := func(c *tls.Config) { c.MinVersion = tls.VersionTLS13 }
	new1, new2 := node(1, nil, only13), node(2, &rsa, only13)
	for what, c := range map[string]struct {
		addr   string
		others []string
		want   Finding
		words  []string
	}{
		"one of two": {one, []string{both}, Proved, []string{"no other node", host, both + " has an RSA certificate " +
			"of it, and " + one + " has none"}},
		"the other way round": {both, []string{one}, Proved, []string{both + " has an RSA certificate of it, and " +
			one + " has none"}},
		"another second one":  {both, []string{apart}, Proved, []string{"different RSA certificates"}},
		"one of them agrees":  {both, []string{one, twin}, Proved, []string{"1 hosts, TLS 1.2 and 1.3; ", "has none"}},
		"unequal bytes":       {liar, []string{both}, Disproved, []string{both, "does not resume"}},
		"it cannot be told":   {new1, []string{new2}, Disproved, []string{"does not resume; whether", "alert 70"}},
		"behind a balancer":   {demandingProxies(t, 2, both), []string{one}, Proved, []string{"has none"}},
		"all have both alike": {both, []string{twin}, Proved, []string{"1 hosts, TLS 1.2 and 1.3"}},
	} {
		p := prover().Prove(t.Context(), Subject{Addr: c.addr, Keys: []string{keyID(1)},
			Hosts: []Host{{Name: host, Others: c.others}}})
		if p.Finding != c.want {
			t.Errorf("%s: %d (%s), want %d", what, p.Finding, p.Words, c.want)
		}
		for _, w := range c.words {
			if !strings.Contains(p.Words, w) {
				t.Errorf("%s: %q does not say %q", what, p.Words, w)
			}
		}
	}
}

func TestAProofIsBounded(t *testing.T) {
	cert, _ := certify(t)
	var now, most atomic.Int64
	addr, _ := serve(t, cert, 1, named(1, func(c *tls.Config) {
		c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
			n := now.Add(1)
			defer now.Add(-1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			time.Sleep(5 * time.Millisecond)
			return nil, nil
		}
	}))
	s := Subject{Addr: addr, Keys: []string{keyID(1)}}
	for i := range 50 {
		s.Hosts = append(s.Hosts, Host{Name: fmt.Sprintf("h%d.example", i)})
	}
	p := prover()
	done := make(chan Proof)
	for range 3 {
		go func() { done <- p.Prove(t.Context(), s) }()
	}
	for range 3 {
		if got := <-done; got.Finding != Proved {
			t.Errorf("%+v", got)
		}
	}
	if m := most.Load(); m > atOnce || m < 2 {
		t.Errorf("%d handshakes at once", m)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got := p.Prove(ctx, s); got.Finding != Unproved {
		t.Errorf("after the end of ctx: %+v", got)
	}
}
