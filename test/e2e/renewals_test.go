package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

// renewals are hosts of an intermediate CA, and clients that know the root alone.
type renewals struct {
	*stage
	roots  *x509.CertPool
	inter  *fleet.CA
	served map[string]fleet.Pair // served is what each host had at first.
}

// worseRenewal is one that comes for a host. Begin writes it. Look sees what becomes of it. All
// begin before one is looked at.
type worseRenewal struct {
	begin, look func(r *renewals, host string)
}

// of issues a chain for a host. Above are the intermediates.
func (r *renewals) of(ca *fleet.CA, l fleet.Leaf, above ...*fleet.CA) fleet.Pair {
	r.t.Helper()
	p, err := ca.Issue(l)
	r.ok(err)
	for _, a := range above {
		p.Chain = append(p.Chain, a.PEM()...)
	}
	return p
}

// handshake returns the leaf that a node serves to a client which knows the roots alone.
func (r *renewals) handshake(ctx context.Context, e *envoy, host string) (*x509.Certificate, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	d := tls.Dialer{Config: &tls.Config{ServerName: host, RootCAs: r.roots}}
	conn, err := d.DialContext(ctx, "tcp", e.addr)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return conn.(*tls.Conn).ConnectionState().PeerCertificates[0], nil
}

// serve returns nil if all nodes serve that leaf.
func (r *renewals) serve(host string, want fleet.Pair) error {
	block, _ := pem.Decode(want.Chain)
	for _, e := range r.envoys {
		got, err := r.handshake(r.ctx, e, host)
		if err != nil {
			return fmt.Errorf("%s: %w", e.name, err)
		}
		if !bytes.Equal(got.Raw, block.Bytes) {
			return fmt.Errorf("%s serves another certificate for %s, of %s", e.name, host, got.NotBefore)
		}
	}
	return nil
}

// write writes a file of a host in place, as a careless program does.
func (r *renewals) write(host, file string, b []byte) {
	r.t.Helper()
	r.ok(os.WriteFile(filepath.Join(fleet.HostDir(r.certs, host), file), b, 0o600))
}

// listedCert is what cert list says of a host.
type listedCert struct {
	Name, Problem   string
	Warnings, Notes []string
}

func (r *renewals) listed(host string) listedCert {
	r.t.Helper()
	var l struct{ Certs []listedCert }
	r.ok(r.show(&l, "cert", "list", host))
	for _, c := range l.Certs {
		if c.Name == host {
			return c
		}
	}
	r.t.Fatalf("%s is not in the list", host)
	return listedCert{}
}

// TestAWorseRenewalFailsNoHandshake: a real Envoy with eager chains and a real edge are asked all
// the time, by clients that know the root alone, while renewals come that are half-written, worse
// or unusable. What cannot serve leaves the one before. What looks worse is named.
func TestAWorseRenewalFailsNoHandshake(t *testing.T) {
	t.Parallel()
	s := newStage(t, setup{hosts: 1, later: true})
	r := &renewals{stage: s, roots: s.ca.Pool(), served: map[string]fleet.Pair{}}
	var err error
	r.inter, err = s.ca.Intermediate("First intermediate")
	s.ok(err)
	other, err := s.ca.Intermediate("Second intermediate")
	s.ok(err)
	top, err := s.ca.Intermediate("Cross-signed root")
	s.ok(err)
	r.roots.AppendCertsFromPEM(top.PEM())
	below, err := top.Intermediate("Third intermediate")
	s.ok(err)

	leaf := func(host string) fleet.Leaf { return fleet.Leaf{Names: []string{host}} }
	changed := func(change func(*x509.Certificate)) func(string) fleet.Leaf {
		return func(host string) fleet.Leaf { return fleet.Leaf{Names: []string{host}, Change: change} }
	}
	refused := func(words string, l func(string) fleet.Leaf) worseRenewal {
		begin := func(r *renewals, host string) {
			r.ok(fleet.WriteHost(r.certs, host, r.of(r.inter, l(host), r.inter)))
		}
		return worseRenewal{begin, func(r *renewals, host string) {
			r.eventually(func() error {
				if c := r.listed(host); !strings.Contains(c.Problem, words) {
					return fmt.Errorf("the problem of %s is %q, want %q in it", host, c.Problem, words)
				}
				return nil
			})
			r.ok(r.serve(host, r.served[host]))
		}}
	}
	taken := func(words string, p func(*renewals, string) fleet.Pair) worseRenewal {
		var next fleet.Pair
		begin := func(r *renewals, host string) {
			next = p(r, host)
			r.ok(fleet.WriteHost(r.certs, host, next))
		}
		return worseRenewal{begin, func(r *renewals, host string) {
			r.eventuallyWithin(40*time.Second, func() error { return r.serve(host, next) })
			c := r.listed(host)
			if all := strings.Join(c.Warnings, "; "); (words == "") != (all == "") || !strings.Contains(all, words) {
				r.t.Errorf("warned of %q, want %q in it", all, words)
			}
			if c.Problem != "" {
				r.t.Errorf("the problem is %q", c.Problem)
			}
		}}
	}
	// inSteps writes the parts of a renewal one after the other.
	inSteps := func(ca *fleet.CA, pause time.Duration) worseRenewal {
		return worseRenewal{look: func(r *renewals, host string) {
			old := r.served[host]
			alone := r.of(ca, leaf(host))
			r.write(host, "tls.key", alone.Key)
			r.write(host, "tls.crt", alone.Chain)
			for late := time.Now().Add(pause); time.Now().Before(late); time.Sleep(200 * time.Millisecond) {
				r.ok(r.serve(host, old))
			}
			whole := fleet.Pair{Chain: append(bytes.Clone(alone.Chain), ca.PEM()...), Key: alone.Key}
			r.write(host, "tls.crt", whole.Chain)
			r.eventually(func() error { return r.serve(host, whole) })
			if c := r.listed(host); len(c.Warnings) > 0 || c.Problem != "" {
				r.t.Errorf("a whole chain: %+v", c)
			}
		}}
	}
	second := func(at time.Duration) time.Time { return time.Now().Truncate(time.Second).Add(at) }
	begins := func(in time.Duration) func(string) fleet.Leaf {
		return changed(func(c *x509.Certificate) { c.NotBefore = second(in) })
	}
	by := func(ca *fleet.CA) func(*renewals, string) fleet.Pair {
		return func(r *renewals, host string) fleet.Pair { return r.of(ca, leaf(host), ca) }
	}
	cases := map[string]worseRenewal{
		"two-steps":   inSteps(r.inter, 1500*time.Millisecond),
		"other-steps": inSteps(other, 3*time.Second),
		"expired":     refused("expired at", changed(func(c *x509.Certificate) { c.NotAfter = second(-time.Second) })),
		"hour":        refused("not valid before", begins(time.Hour)),
		"minute":      refused("not valid before", begins(time.Minute)),
		"key-usage": refused("digitalSignature", func(host string) fleet.Leaf {
			return fleet.Leaf{Names: []string{host}, Usage: x509.KeyUsageKeyAgreement}
		}),
		"client": refused("serverAuth", changed(func(c *x509.Certificate) { c.ExtKeyUsage = c.ExtKeyUsage[1:] })),
		"must-staple": refused("must-staple", func(host string) fleet.Leaf {
			return fleet.Leaf{Names: []string{host}, MustStaple: true}
		}),
		"sibling": taken("", by(other)),
		"fewer":   taken("not for www.", by(r.inter)),
		"rsa": taken("RSA of 2048 bits, before ECDSA", func(r *renewals, host string) fleet.Pair {
			return r.of(r.inter, fleet.Leaf{Names: []string{host}, RSA: true}, r.inter)
		}),
		"cross-signed": taken("became shorter", by(below)),
		"seconds": {look: func(r *renewals, host string) {
			at := second(4 * time.Second)
			starts := changed(func(c *x509.Certificate) { c.NotBefore = at })
			next := r.of(r.inter, starts(host), r.inter)
			r.ok(fleet.WriteHost(r.certs, host, next))
			for time.Until(at) > time.Second {
				r.ok(r.serve(host, r.served[host]))
				time.Sleep(200 * time.Millisecond)
			}
			r.eventually(func() error { return r.serve(host, next) })
			if c := r.listed(host); len(c.Warnings) > 0 || c.Problem != "" {
				r.t.Errorf("once it is valid: %+v", c)
			}
		}},
		"lost": {look: func(r *renewals, host string) {
			alone := r.of(r.inter, leaf(host))
			r.ok(fleet.WriteHost(r.certs, host, alone))
			r.eventually(func() error {
				if c := r.listed(host); !strings.Contains(c.Problem, "without the intermediate") {
					return fmt.Errorf("the problem is %q", c.Problem)
				}
				return nil
			})
			r.ok(r.serve(host, r.served[host]))
			if x := r.lockstep("explain", host); !strings.Contains(x.out, "without the intermediate") {
				r.t.Errorf("explain says %s", x.out)
			}
			r.write(host, "tls.crt", append(alone.Chain, r.inter.PEM()...))
			r.eventually(func() error { return r.serve(host, alone) })
		}},
		"stored": {look: func(r *renewals, host string) {
			r.ok(os.RemoveAll(fleet.HostDir(r.certs, host)))
			old := r.of(r.inter, fleet.Leaf{Names: []string{host, "www." + host}}, r.inter)
			r.put(host, old, 0, "")
			r.eventually(func() error { return r.serve(host, old) })
			r.put(host, r.of(r.inter, leaf(host)), 5, "without the intermediate")
			r.put(host, r.of(r.inter, begins(time.Minute)(host), r.inter), 5, "not valid before")
			dir := r.path("import-" + host)
			r.ok(fleet.WriteHost(dir, host, r.of(r.inter, leaf(host))))
			x := r.lockstep("cert", "import", dir)
			if x.code != 1 || !strings.Contains(x.err, "without the intermediate") {
				r.t.Errorf("cert import: exit code %d: %s", x.code, x.err)
			}
			r.ok(r.serve(host, old))

			soon := r.of(r.inter, begins(3*time.Second)(host), r.inter)
			r.put(host, soon, 0, "warning: it is not for www."+host)
			r.eventually(func() error { return r.serve(host, soon) })
			if c := r.listed(host); len(c.Warnings) != 1 {
				r.t.Errorf("cert list: %+v", c)
			}
		}},
	}

	addr := s.listen("  match: [\"*.worse.example\"]\n")
	for name := range cases {
		host := name + ".worse.example"
		p := r.of(r.inter, leaf(host), r.inter)
		switch name {
		case "fewer":
			p = r.of(r.inter, fleet.Leaf{Names: []string{host, "www." + host}}, r.inter)
		case "cross-signed":
			p = r.of(below, leaf(host), below, top)
		}
		s.ok(fleet.WriteHost(s.certs, host, p))
		r.served[host] = p
	}
	s.start()
	s.hybrid("envoy", addr)
	s.edge("edge", "")
	s.awaitReady()
	for host, p := range r.served {
		s.eventually(func() error { return r.serve(host, p) })
	}

	ctx, stop := context.WithCancel(s.ctx)
	var clients sync.WaitGroup
	var made, failed atomic.Int64
	for host := range r.served {
		if strings.HasPrefix(host, "stored.") {
			continue // it moves from the directory to the store
		}
		for _, e := range s.envoys {
			clients.Go(func() {
				for ctx.Err() == nil {
					if _, err := r.handshake(ctx, e, host); err != nil && ctx.Err() == nil {
						failed.Add(1)
						t.Errorf("%s, %s: %v", e.name, host, err)
					}
					made.Add(1)
					select {
					case <-ctx.Done():
					case <-time.After(250 * time.Millisecond):
					}
				}
			})
		}
	}
	for name, c := range cases {
		if c.begin != nil {
			c.begin(r, name+".worse.example")
		}
	}
	t.Run("kinds", func(t *testing.T) {
		// They are beside each other, but wait for no other test: their clients go on meanwhile.
		var kinds sync.WaitGroup
		for name, c := range cases {
			kinds.Go(func() {
				t.Run(name, func(t *testing.T) {
					sub := *r
					sub.stage = r.stage.in(t)
					c.look(&sub, name+".worse.example")
				})
			})
		}
		kinds.Wait()
	})
	stop()
	clients.Wait()
	t.Logf("%d of %d handshakes failed", failed.Load(), made.Load())
	if made.Load() < 70 {
		t.Errorf("only %d handshakes were made", made.Load())
	}

	var st struct {
		Problems     []struct{ Code, Where, Text string }
		Certificates struct{ Warnings []string }
	}
	s.ok(s.show(&st, "status"))
	for _, host := range []string{"fewer", "rsa", "cross-signed", "stored"} {
		host += ".worse.example"
		found, warned := false, false
		for _, p := range st.Problems {
			found = found || p.Code == "certificate-worse" && p.Where == host
		}
		for _, w := range st.Certificates.Warnings {
			warned = warned || strings.HasPrefix(w, host+": ")
		}
		if !found || !warned {
			t.Errorf("status says nothing of %s: %+v", host, st)
		}
	}
	for host, words := range map[string]string{
		"fewer": "warning: it is not for www.", "stored": "it is not for www.", "lost": "without the intermediate",
	} {
		host += ".worse.example"
		s.eventually(func() error {
			if out := s.mustRun("-o", "json", "events", "--host", host); !strings.Contains(out, words) {
				return fmt.Errorf("events of %s: %s", host, out)
			}
			return nil
		})
	}

	// What is warned of is known after a restart, too.
	s.ok(s.plane.Stop(10 * time.Second))
	s.ok(s.plane.Restart())
	s.ok(s.plane.Ready(s.ctx))
	for _, name := range []string{"fewer", "stored"} {
		s.eventually(func() error {
			if c := r.listed(name + ".worse.example"); len(c.Warnings) != 1 {
				return fmt.Errorf("after a restart: %+v", c)
			}
			return nil
		})
	}
}

// put puts a certificate into the store, and wants words on standard error.
func (r *renewals) put(host string, p fleet.Pair, code int, words string) {
	r.t.Helper()
	x := r.lockstep("cert", "put", host, "--cert", r.file(host+".crt", p.Chain), "--key", r.file(host+".key", p.Key))
	if x.code != code || !strings.Contains(x.err, words) {
		r.t.Errorf("cert put: exit code %d: %s, want %d and %q", x.code, x.err, code, words)
	}
}
