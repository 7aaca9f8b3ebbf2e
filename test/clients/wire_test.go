package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

// What is read off the wire is what the client knows.
func TestTheWireTellsWhatTheClientKnows(t *testing.T) {
	t.Parallel()
	ca, err := fleet.NewCA("wire")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := ca.Issue(fleet.Leaf{Names: []string{host}})
	if err != nil {
		t.Fatal(err)
	}
	cert, err := tls.X509KeyPair(pair.Chain, pair.Key)
	if err != nil {
		t.Fatal(err)
	}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for what, curves := range map[string][]tls.CurveID{"": nil, "asked again": {tls.CurveP521}} {
			for _, piece := range []int{1, 7, 1 << 20} {
				server := &tls.Config{Certificates: []tls.Certificate{cert}, CurvePreferences: curves}
				client := &tls.Config{RootCAs: ca.Pool(), ServerName: host, MaxVersion: version,
					ClientSessionCache: tls.NewLRUClientSessionCache(1)}
				for i := range 3 {
					where := fmt.Sprintf("%s %s, in pieces of %d, connection %d", tls.VersionName(version), what,
						piece, i+1)
					got, knows, err := along(server, client, piece)
					if err != nil {
						t.Fatalf("%s: %v", where, err)
					}
					if got.Version != version || got.Resumed != knows || knows != (i > 0) {
						t.Errorf("%s: the wire says %+v, the client resumed %t", where, got, knows)
					}
				}
			}
		}
	}
}

// along makes a connection whose server is read along in pieces.
func along(server, client *tls.Config, piece int) (got seen, resumed bool, err error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return seen{}, false, err
	}
	defer ln.Close()
	a, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		return seen{}, false, err
	}
	defer a.Close()
	b, err := ln.Accept()
	if err != nil {
		return seen{}, false, err
	}
	w := &wire{}
	var served sync.WaitGroup
	defer served.Wait()
	served.Go(func() {
		defer b.Close()
		s := tls.Server(&tapped{b, w, piece}, server)
		s.Write([]byte("hello"))
		s.Close()
	})
	c := tls.Client(a, client)
	if _, err := io.ReadAll(c); err != nil {
		return seen{}, false, err
	}
	return w.look(), c.ConnectionState().DidResume, nil
}

type tapped struct {
	net.Conn
	w     *wire
	piece int
}

func (t *tapped) Write(b []byte) (int, error) {
	for rest := b; len(rest) > 0; {
		n := min(t.piece, len(rest))
		t.w.Write(rest[:n])
		rest = rest[n:]
	}
	return t.Conn.Write(b)
}
