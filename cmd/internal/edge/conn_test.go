package edge

import (
	"context"
	"crypto/tls"
	"net"
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/grpc/credentials"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

// The control plane is who carries its name or address, or the name that the configuration demands:
// each node has a certificate of the same CA.
func TestTheControlPlaneIsKnownByItsNameOrAddress(t *testing.T) {
	ca, err := fleet.NewCA("Nodes CA")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	c := Config{
		XDSCert: filepath.Join(dir, "tls.crt"),
		XDSKey:  filepath.Join(dir, "tls.key"), XDSCA: filepath.Join(dir, "ca.crt"),
	}
	issue := func(l fleet.Leaf) fleet.Pair {
		p, err := ca.Issue(l)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	node := issue(fleet.Leaf{Names: []string{"edge-1.example"}})
	for file, b := range map[string][]byte{c.XDSCert: node.Chain, c.XDSKey: node.Key, c.XDSCA: ca.PEM()} {
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const id = "spiffe://fleet.example/lockstepd"
	for name, test := range map[string]struct {
		leaf       fleet.Leaf
		host, want string // the host of xds, and xds_name
		ok         bool
	}{
		"its address":          {fleet.Leaf{IPs: []string{"10.0.0.1"}}, "10.0.0.1", "", true},
		"another address":      {fleet.Leaf{IPs: []string{"10.0.0.2"}}, "10.0.0.1", "", false},
		"a name, not address":  {fleet.Leaf{Names: []string{"plane.example"}}, "10.0.0.1", "", false},
		"its name":             {fleet.Leaf{Names: []string{"plane.example"}}, "plane.example", "", true},
		"a node":               {fleet.Leaf{Names: []string{"edge-2.example"}}, "plane.example", "", false},
		"the name demanded":    {fleet.Leaf{URIs: []string{id}}, id, id, true},
		"not the one demanded": {fleet.Leaf{URIs: []string{id + "/other"}}, id, id, false},
	} {
		t.Run(name, func(t *testing.T) {
			pair := issue(test.leaf)
			cert, err := tls.X509KeyPair(pair.Chain, pair.Key)
			if err != nil {
				t.Fatal(err)
			}
			l, err := tls.Listen("tcp", "127.0.0.1:0",
				&tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2"},
					ClientCAs: ca.Pool(), ClientAuth: tls.RequireAndVerifyClientCert})
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			served := make(chan error, 1)
			go func() {
				conn, err := l.Accept()
				if err == nil {
					err = conn.(*tls.Conn).Handshake()
					conn.Close()
				}
				served <- err
			}()
			raw, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer raw.Close()
			c := c
			c.XDSName = test.want
			creds := mutual{credentials.NewTLS(nil), c}.Clone() // as gRPC does
			_, _, err = creds.ClientHandshake(context.Background(), test.host, raw)
			if (err == nil) != test.ok {
				t.Errorf("%v", err)
			}
			if err := <-served; (err == nil) != test.ok {
				t.Errorf("the control plane: %v", err)
			}
		})
	}
}
