package daemon

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lockstep-tls/lockstep/cmd/internal/access"
	"github.com/lockstep-tls/lockstep/cmd/internal/config"
	"github.com/lockstep-tls/lockstep/identity/identitytest"
)

// Off loopback a certificate opens nothing by itself. It does with a token, or with a role by the
// policy, and with admin_client_ca only if it is of that CA.
func TestCertificatesAndTokensAtTheAdminAPI(t *testing.T) {
	nodes, ops := identitytest.NewAuthority(t, "fleet"), identitytest.NewAuthority(t, "fleet")
	dir := t.TempDir()
	crt, key := nodes.Sign(&x509.Certificate{
		DNSNames: []string{"lockstepd.example"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	})
	file := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	own := tls.Certificate{Certificate: [][]byte{crt.Raw}, PrivateKey: key}
	const status, rotate, kek = "GET /v1/status", "POST /v1/scopes/default/rotate", "POST /v1/kek/retire"
	type request struct {
		what        string
		cert        tls.Certificate
		token, want string // want begins with the status; the rest is in the answer
	}
	try := func(t *testing.T, operatorsCA bool, requests func(r *running) []request) {
		r := start(t, func(c *config.Config) {
			c.AdminListen, c.XDSCert, c.XDSKey = "0.0.0.0:0", file("crt", identitytest.PEM(crt)),
				file("key", identitytest.KeyPEM(t, key))
			c.XDSClientCA = file("nodes.pem", identitytest.PEM(nodes.Cert))
			c.Policy = file("policy.yaml", []byte(`rules:
- {identity: "spiffe://fleet/node", scopes: [default]}
- {identity: "spiffe://fleet/ops/alice", admin: [operate]}
`))
			if operatorsCA {
				c.AdminClientCA = file("ops.pem", identitytest.PEM(ops.Cert))
			}
		})
		_, port, err := net.SplitHostPort(r.adminListener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		pool := x509.NewCertPool()
		pool.AddCert(nodes.Cert)
		for _, q := range requests(r) {
			method, path, _ := strings.Cut(q.what, " ")
			client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{
				RootCAs: pool, Certificates: []tls.Certificate{q.cert},
			}}}
			req, err := http.NewRequestWithContext(t.Context(), method, "https://127.0.0.1:"+port+path,
				strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			if proof, ok := strings.CutPrefix(q.token, "proof "); ok {
				req.Header.Set(access.ProofHeader, proof)
			} else if q.token != "" {
				req.Header.Set("Authorization", "Bearer "+q.token)
			}
			resp, err := client.Do(req)
			if err != nil {
				t.Errorf("%+v: %v", q.what, err)
				continue
			}
			b, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			got := resp.Status + " " + string(b)
			code, words, _ := strings.Cut(q.want, " ")
			if err != nil || !strings.HasPrefix(got, code) || !strings.Contains(got, words) {
				t.Errorf("%s: %s (%v), want %s", q.what, got, err, q.want)
			}
		}
		st, err := r.rolls.Status("default")
		if err != nil {
			t.Fatal(err)
		}
		by := ""
		for _, l := range st.History {
			by += l.By + "\n"
		}
		if !strings.Contains(by, "certificate spiffe://fleet/ops/alice\n") {
			t.Errorf("the history names %q", by)
		}
	}
	node, alice, bob := nodes.SVID("fleet/node"), nodes.SVID("fleet/ops/alice"), nodes.SVID("fleet/ops/bob")
	proof := func(r *running, path string) string {
		return "proof " + r.access.Prove(http.MethodGet, path, r.data.Replica)
	}
	t.Run("with the CA of nodes", func(t *testing.T) {
		try(t, false, func(r *running) []request {
			return []request{
				{status, node, "", `403 has no role`},
				{"GET /v1/pulse", node, "", "403"},
				{"GET /debug/pprof/cmdline", node, "", "403"},
				{"GET /metrics", node, "", "200"},
				{status, bob, "", "403 spiffe://fleet/ops/bob"},
				{status, node, r.data.Token, "200"},
				{kek, node, r.data.Token, "409 one key only"},
				{status, alice, "", "200"},
				{rotate, alice, "", "200"},
				{kek, alice, "", "403 needs the role admin"},
				{status, alice, "guess", "403 wrong"},
				{"GET /v1/nodes?here", own, proof(r, "/v1/nodes?here"), "200"},
				{"GET /v1/nodes", own, proof(r, "/v1/nodes"), "403 a replica may not"},
				{status, own, proof(r, "/v1/status"), "403 a replica may not"},
			}
		})
	})
	t.Run("with a CA of operators", func(t *testing.T) {
		alice, bob := ops.SVID("fleet/ops/alice"), ops.SVID("fleet/ops/bob")
		theirs := nodes.SVID("fleet/ops/alice") // the CA of nodes may not say who an operator is
		try(t, true, func(r *running) []request {
			return []request{
				{status, node, r.data.Token, "403 admin_client_ca"},
				{status, theirs, "", "403 admin_client_ca"},
				{rotate, theirs, r.data.Token, "403 admin_client_ca"},
				{"GET /v1/nodes?here", own, proof(r, "/v1/nodes?here"), "200"},
				{status, bob, "", "403 has no role"},
				{status, bob, r.data.Token, "200"},
				{rotate, alice, "", "200"},
				{kek, alice, "", "403"},
			}
		})
	})
}
