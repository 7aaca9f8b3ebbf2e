package daemon

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/access"
	"github.com/lockstep-tls/lockstep/cmd/internal/config"
	"github.com/lockstep-tls/lockstep/cmd/internal/replica"
	"github.com/lockstep-tls/lockstep/identity/identitytest"
	"github.com/lockstep-tls/lockstep/internal/testkit"
	"github.com/lockstep-tls/lockstep/test/fleet"
)

// What a replica tells the others is an address at which it lets them in.
func TestReplicasAreLetInByTheAddressTheyWereTold(t *testing.T) {
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	ca, dir := identitytest.NewAuthority(t, ""), t.TempDir()
	crt, key := ca.Sign(&x509.Certificate{DNSNames: []string{host}, KeyUsage: x509.KeyUsageDigitalSignature})
	for name, b := range map[string][]byte{
		"ca": identitytest.PEM(ca.Cert), "crt": identitytest.PEM(crt), "key": identitytest.KeyPEM(t, key),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := start(t, func(c *config.Config) {
		c.AdminListen = "0.0.0.0:0"
		c.XDSCert, c.XDSKey, c.XDSClientCA = filepath.Join(dir, "crt"),
			filepath.Join(dir, "key"), filepath.Join(dir, "ca")
	})
	_, port, err := net.SplitHostPort(r.adminListener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(ca.Cert)
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig: &tls.Config{
			RootCAs: pool, Certificates: []tls.Certificate{{Certificate: [][]byte{crt.Raw}, PrivateKey: key}},
		},
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			// as if the name led here
			return new(net.Dialer).DialContext(ctx, "tcp", "127.0.0.1:"+port)
		},
	}}
	for _, c := range []struct {
		base string
		want int
	}{{r.self, 200}, {"https://evil.example:" + port, 403}} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet,
			"https://"+host+":"+port+"/v1/nodes?here", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = strings.TrimPrefix(c.base, "https://")
		req.Header.Set(access.ProofHeader, r.access.Prove(http.MethodGet, req.URL.RequestURI(), r.data.Replica))
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != c.want {
			t.Errorf("%s: %s, want %d", c.base, resp.Status, c.want)
		}
	}
}

// Two replicas on two machines with the default admin address: at the other's address each finds
// somebody else. It is taken for what it is, and who has to set what is said.
func TestAnotherReplicaAtTheAddressOfOneIsNotBelieved(t *testing.T) {
	redis, err := fleet.ForTest(t).Redis(t.Context(), "store")
	if err != nil {
		t.Fatal(err)
	}
	kek := filepath.Join(t.TempDir(), "sealing.key")
	shared := func(c *config.Config) {
		c.Store, c.KEK, c.Events, c.Refresh = "redis://"+redis.Addr, kek, "nats://127.0.0.1:1", time.Second
		c.KEKNew = true
	}
	one, two := start(t, shared), start(t, shared)
	join(t, two.xdsListener.Addr().String(), "edge-1", "tickets/default").gets("+tickets/default")
	testkit.Until(t, func() error { // as one fleet
		nodes, err := one.client.Nodes(t.Context(), "")
		if err == nil && (len(nodes.Silent) > 0 || len(nodes.Nodes) != 1 ||
			nodes.Nodes[0].Replica != two.data.Replica || nodes.Replica != one.data.Replica) {
			err = fmt.Errorf("%+v", nodes)
		}
		return err
	})
	var said bytes.Buffer
	listener := replica.New(replica.Config{Admin: one.self, Log: slog.New(slog.NewTextHandler(&said, nil))})
	look := func() string { // each look begins anew
		said.Reset()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := one.rolls.FindUnreachable(ctx, listener.Unreachable); err != nil {
			t.Error(err)
		}
		return said.String()
	}
	if got := look(); got != "" {
		t.Errorf("of a replica on this machine: %s", got)
	}

	// Somebody else has two's address now.
	addr := two.adminListener.Addr().String()
	two.http.Close()
	third := start(t, func(c *config.Config) { c.AdminListen = addr })
	testkit.Until(t, func() error {
		nodes, err := one.client.Nodes(t.Context(), "")
		if err == nil && (len(nodes.Silent) != 1 || len(nodes.Nodes) != 1) {
			err = fmt.Errorf("%+v", nodes)
		}
		if err != nil {
			return err
		}
		for _, want := range []string{
			two.data.Replica, third.data.Replica, "another replica answers there", "admin_listen", addr,
		} {
			if !strings.Contains(nodes.Silent[0], want) {
				return fmt.Errorf("%q has no %q", nodes.Silent, want)
			}
		}
		return nil
	})
	if got := look(); strings.Count(got, "set admin_listen") != 1 || !strings.Contains(got, two.data.Replica) {
		t.Errorf("said: %s", got)
	}
}
