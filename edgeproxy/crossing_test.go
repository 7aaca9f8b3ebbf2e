package edgeproxy

import (
	"crypto/tls"
	"fmt"
	"testing"
)

// Each listener is offered the sessions that every other has made, by one client with one session
// store: a session resumes where the terms are the same, and nobody comes in whom a full handshake
// would not let in.
func TestNoTicketCrossesFromOneListenerToAnother(t *testing.T) {
	a, b := ca(t, "A"), ca(t, "B")
	fileA, fileB := clientCA(t, a), clientCA(t, b)
	shops := []Listener{
		{}, {ClientCA: fileA}, {ClientCA: fileB}, {ClientCA: fileA, ClientNames: []string{"*.denied.example"}},
		{Scope: "other"},
		{}, {ClientCA: fileA}, // the same terms as the first two
		{ClientCA: fileA, ClientNames: []string{"alice.example"}},
	}
	names := []string{"no client certificate", "CA A", "CA B", "CA A, denied", "another scope",
		"no client certificate, again", "CA A, again", "CA A, only alice"}
	same := func(i, j int) bool { return i == j || min(i, j) < 2 && max(i, j) == min(i, j)+5 }
	r := run(t, Config{Listeners: shops,
		Routes: []Route{{Host: "*", Path: "/", Upstreams: []string{"http://127.0.0.1:1"}}}})

	none := (*tls.Certificate)(nil)
	alice, bob := person(t, a, "alice.example"), person(t, b, "bob.example")
	clients := map[string]*tls.Certificate{"nobody": none, "alice of A": &alice, "bob of B": &bob}
	mayEnter := func(who string, at int) bool {
		switch at {
		case 1, 6, 7:
			return who == "alice of A"
		case 2:
			return who == "bob of B"
		case 3:
			return false // alice's certificate is of the CA, and carries none of the names
		}
		return true
	}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for who, cert := range clients {
			for from := range shops {
				for to := range shops {
					what := fmt.Sprintf("%s, %s: from %q to %q", tls.VersionName(version), who, names[from], names[to])
					store := tls.NewLRUClientSessionCache(10)
					_, first := handshake(r, from, version, cert, store)
					if (first == nil) != mayEnter(who, from) {
						t.Fatalf("%s: the first handshake: %v", what, first)
					}
					resumed, err := handshake(r, to, version, cert, store)
					if (err == nil) != mayEnter(who, to) {
						t.Errorf("%s: %v", what, err)
					}
					if want := first == nil && same(from, to); resumed != want {
						t.Errorf("%s: resumed %t", what, resumed)
					}
				}
			}
			// Somebody else's session, at a listener that demands a certificate, does not bring in
			// who has none.
			if who == "nobody" {
				continue
			}
			store := tls.NewLRUClientSessionCache(10)
			handshake(r, 0, version, cert, store)
			for _, to := range []int{1, 2, 3} {
				if _, err := handshake(r, to, version, none, store); err == nil {
					t.Errorf("%s: a session of %q let in at %q who has no certificate", tls.VersionName(version),
						names[0], names[to])
				}
			}
		}
	}
}

// handshake makes one connection to the listener at, and reads something, so that the ticket has
// come and the server's verdict too.
func handshake(r *rig, at int, version uint16, cert *tls.Certificate, store tls.ClientSessionCache) (resumed bool,
	err error) {
	c := &tls.Config{RootCAs: r.ca.Pool(), ServerName: shop, MinVersion: version, MaxVersion: version,
		ClientSessionCache: store}
	if cert != nil {
		c.Certificates = []tls.Certificate{*cert}
	}
	conn, err := tls.Dial("tcp", r.addrs[at], c)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	if _, err := fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", shop); err != nil {
		return false, err
	}
	_, err = conn.Read(make([]byte, 1))
	return conn.ConnectionState().DidResume, err
}
