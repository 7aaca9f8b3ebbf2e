package pki

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const year = 365 * 24 * time.Hour

func initCA(t *testing.T) (*CA, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "pki")
	if _, err := Init(dir, "Test CA", false); err != nil {
		t.Fatal(err)
	}
	c, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return c, dir
}

func (c *CA) mustIssue(t *testing.T, dir string, r Request) tls.Certificate {
	t.Helper()
	r.TTL = year
	if _, err := c.Issue(dir, r, false); err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, CertFile), filepath.Join(dir, KeyFile))
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

// connect makes an mTLS handshake with certificates of the CA.
func connect(c *CA, server, client tls.Certificate, name string) error {
	pool := x509.NewCertPool()
	pool.AddCert(c.cert)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{server}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert,
	})
	if err != nil {
		return err
	}
	defer l.Close()
	done := make(chan error, 1)
	go func() {
		conn, err := l.Accept()
		if err == nil {
			err = conn.(*tls.Conn).Handshake()
			conn.Close()
		}
		done <- err
	}()
	conn, err := tls.Dial("tcp", l.Addr().String(),
		&tls.Config{RootCAs: pool, ServerName: name, Certificates: []tls.Certificate{client}})
	if err == nil {
		conn.Close()
	}
	return errors.Join(err, <-done)
}

func TestServerAndNodesKnowEachOther(t *testing.T) {
	c, dir := initCA(t)
	server := c.mustIssue(t, ServerDir(dir),
		Request{Server: true, Names: []string{"Lockstepd.example"}, IPs: []string{"127.0.0.1"}})
	folder, err := NodeDir(dir, "edge-1")
	if err != nil {
		t.Fatal(err)
	}
	node := c.mustIssue(t, folder, Request{Node: "edge-1"})
	byID := c.mustIssue(t, filepath.Join(dir, "x"), Request{Node: "Edge_2", SPIFFE: "spiffe://fleet.example/edge/2"})
	for _, name := range []string{"lockstepd.example", "127.0.0.1"} {
		if err := errors.Join(connect(c, server, node, name), connect(c, server, byID, name),
			connect(c, server, server, name)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := connect(c, server, node, "other.example"); err == nil {
		t.Error("the server's certificate is good for any name")
	}
	if err := connect(c, node, node, "edge-1"); err == nil {
		t.Error("a node's certificate can pose as a server")
	}
	if got := byID.Leaf; len(got.URIs) != 1 || len(got.DNSNames) != 0 ||
		got.URIs[0].String() != "spiffe://fleet.example/edge/2" {
		t.Errorf("%v %v", got.URIs, got.DNSNames)
	}
	other, _ := initCA(t)
	if err := connect(other, server, node, "127.0.0.1"); err == nil {
		t.Error("another CA's certificates are taken")
	}
}

// Names that package identity takes for one are one folder, one certificate and one identity.
func TestANodeHasOneFolderHoweverItsNameIsWritten(t *testing.T) {
	c, dir := initCA(t)
	for i, node := range []string{"edge-1.Example", "Edge-1.example", "EDGE-1.EXAMPLE."} {
		folder, err := NodeDir(dir, node)
		if err != nil || folder != filepath.Join(dir, "nodes", "edge-1.example") {
			t.Errorf("%s: folder %s, %v", node, folder, err)
		}
		out, err := c.Issue(folder, Request{Node: node, TTL: year}, false)
		switch {
		case i > 0 && !errors.Is(err, ErrExists):
			t.Errorf("%s is another node's: %v", node, err)
		case i == 0 && (err != nil || out.Identity != "edge-1.example"):
			t.Errorf("%s: identity %q, %v", node, out.Identity, err)
		}
		if i > 0 {
			continue
		}
		pair, err := tls.LoadX509KeyPair(filepath.Join(folder, CertFile), filepath.Join(folder, KeyFile))
		if err != nil || pair.Leaf.Subject.CommonName != "edge-1.example" {
			t.Errorf("%v %v", pair.Leaf, err)
		}
	}
	if _, err := NodeDir(dir, "edgeK"); !errors.Is(err, ErrBadRequest) {
		// the Kelvin sign: k, in lower case
		t.Errorf("%v", err)
	}
}

func TestKeysAreTheOwnersAlone(t *testing.T) {
	c, dir := initCA(t)
	c.mustIssue(t, ServerDir(dir), Request{Server: true, Names: []string{"a.example"}})
	for file, want := range map[string]os.FileMode{
		caKeyFile: 0o600, CAFile: 0o644, "server/" + KeyFile: 0o600, "server/" + CertFile: 0o644,
		"server/" + CAFile: 0o644, ".": 0o700, "server": 0o700,
	} {
		if fi, err := os.Stat(filepath.Join(dir, file)); err != nil || fi.Mode().Perm() != want {
			t.Errorf("%s: %v %v, want %v", file, fi.Mode().Perm(), err, want)
		}
	}
	if d := time.Until(c.NotAfter()); d < 9*year || d > 11*year {
		t.Errorf("the CA is good for %s", d)
	}
	at, err := Expiry(ServerDir(dir))
	if d := time.Until(at); err != nil || d < year-time.Hour || d > year {
		t.Errorf("%s %v", d, err)
	}
}

func TestNothingIsOverwrittenUnasked(t *testing.T) {
	c, dir := initCA(t)
	if _, err := Init(dir, "Another", false); !errors.Is(err, ErrExists) || !strings.Contains(err.Error(), "ca.key") {
		t.Errorf("%v", err)
	}
	if again, err := Open(dir); err != nil || !again.cert.Equal(c.cert) {
		t.Errorf("it was overwritten all the same: %v", err)
	}
	out := filepath.Join(dir, "n")
	r := Request{Node: "n", TTL: year}
	first := c.mustIssue(t, out, r)
	if _, err := c.Issue(out, r, false); !errors.Is(err, ErrExists) {
		t.Errorf("%v", err)
	}
	if err := os.Remove(filepath.Join(out, KeyFile)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Issue(out, r, false); !errors.Is(err, ErrExists) { // half of it counts
		t.Errorf("%v", err)
	}
	if _, err := c.Issue(out, r, true); err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(out, CertFile), filepath.Join(out, KeyFile))
	if err != nil || pair.Leaf.Equal(first.Leaf) {
		t.Errorf("%v", err)
	}
	if files, _ := os.ReadDir(out); len(files) != 3 {
		t.Errorf("left over: %v", files)
	}
}

func TestWhatCannotBeIssued(t *testing.T) {
	c, dir := initCA(t)
	for want, r := range map[string]Request{
		"--name, --ip":    {Server: true, TTL: year},
		"a/b":             {Node: "a/b", TTL: year},
		"node \"\"":       {TTL: year},
		"node \"..\"":     {Node: "..", TTL: year},
		"edge_1":          {Node: "edge_1", TTL: year},
		"with --ip":       {Server: true, Names: []string{"192.0.2.1"}, TTL: year},
		"not an IP":       {Server: true, IPs: []string{"localhost"}, TTL: year},
		"a b":             {Server: true, Names: []string{"a b"}, TTL: year},
		"spiffe-id":       {Node: "n", SPIFFE: "https://x", TTL: year},
		"lifetime":        {Node: "n"},
		"outlive its CA":  {Node: "n", TTL: 11 * year},
		"lifetime of -1s": {Node: "n", TTL: -time.Second},
	} {
		if _, err := c.Issue(filepath.Join(dir, "out"), r, false); !errors.Is(err, ErrBadRequest) ||
			!strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q in it", r, err, want)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "out")); err == nil {
		t.Error("something was written")
	}
	if _, err := Open(t.TempDir()); err == nil || !strings.Contains(err.Error(), "lockstep pki init") {
		t.Errorf("%v", err)
	}
	_, other := initCA(t)
	if err := os.Rename(filepath.Join(other, caKeyFile), filepath.Join(dir, caKeyFile)); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), "does not belong") {
		t.Errorf("%v", err)
	}
}
