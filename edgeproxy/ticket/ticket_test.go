package ticket

import (
	"bytes"
	"crypto/tls"
	"slices"
	"testing"

	"github.com/lockstep-tls/lockstep/keysource"
)

func ring(n int) (r keysource.Ring) {
	r.Generation = 1
	for range n {
		r.Keys = append(r.Keys, keysource.NewTicketKey())
	}
	return r
}

func derive(t testing.TB, scope string, r keysource.Ring) Keys {
	t.Helper()
	k, err := Derive(scope, r)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestKeysDependOnTheRingAndTheScope(t *testing.T) {
	r := ring(2)
	a, again, other := derive(t, "default", r), derive(t, "default", r), derive(t, "partners", r)
	if !slices.Equal(a.keys, again.keys) {
		t.Error("two edges derive different keys")
	}
	for i := range a.keys {
		if a.keys[i] == other.keys[i] {
			t.Error("two scopes have the same key")
		}
		if bytes.Contains(r.Keys[i][:], a.keys[i][:]) || bytes.Contains(r.Keys[i][:], a.keys[i][:8]) {
			t.Error("a part of the ring's key is used as it is")
		}
	}
	changed := keysource.Ring{Generation: 2, Keys: slices.Clone(r.Keys)}
	changed.Keys[0][79] ^= 1
	if b := derive(t, "default", changed); b.keys[0] == a.keys[0] || b.keys[1] != a.keys[1] {
		t.Error("a key does not depend on its own bytes alone")
	}
	changed.Keys[1][0] ^= 1 // the name
	if b := derive(t, "default", changed); b.keys[1] == a.keys[1] {
		t.Error("a key does not depend on its name")
	}
}

func TestTermsAreToldApart(t *testing.T) {
	all := []Terms{
		{}, {Scope: "a"}, {Scope: "b"}, {Scope: "a", ClientAuth: tls.RequireAndVerifyClientCert},
		{Scope: "a", ClientCAs: [][]byte{{1}}}, {Scope: "a", ClientCAs: [][]byte{{2}}},
		{Scope: "a", ClientCAs: [][]byte{{1, 2}}}, {Scope: "a", ClientCAs: [][]byte{{1}, {2}}},
		{Scope: "a", Clients: []string{"x"}}, {Scope: "a", Clients: []string{"x", "y"}},
		{Scope: "a", Clients: []string{"xy"}}, {Scope: "a", ClientCAs: [][]byte{{1}}, Clients: []string{"x"}},
	}
	seen := map[ID]int{}
	for i, terms := range all {
		if j, ok := seen[terms.ID()]; ok {
			t.Errorf("%+v and %+v are one", all[j], terms)
		}
		seen[terms.ID()] = i
	}
	if (Terms{ClientCAs: [][]byte{{1}, {2}}, Clients: []string{"x", "y"}}).ID() != (Terms{ClientCAs: [][]byte{{2},
		{1}}, Clients: []string{"y", "x"}}).ID() {
		t.Error("the order counts")
	}
	if (ID{}).mark("a.example") == (ID{}).mark("b.example") {
		t.Error("the server name does not count")
	}
}

func TestWithoutKeysThereAreNoTickets(t *testing.T) {
	var c tls.Config
	Keys{}.Install(&c, ID{}, nil)
	if !c.SessionTicketsDisabled {
		t.Error("tickets are on")
	}
}

func TestATicketNamesItsKey(t *testing.T) {
	r := ring(3)
	var c tls.Config
	derive(t, "default", r).Install(&c, ID{}, nil)
	cs := tls.ConnectionState{Version: tls.VersionTLS13, ServerName: "shop.example"}
	b, err := c.WrapSession(cs, state(t))
	if err != nil || !bytes.HasPrefix(b, r.Keys[0][:nameSize]) {
		t.Fatalf("%x, %v", b[:nameSize], err)
	}
	if ss, err := c.UnwrapSession(b, cs); ss == nil || err != nil {
		t.Errorf("it is declined: %v", err)
	}
	cs.ServerName = "other.example"
	if ss, err := c.UnwrapSession(b, cs); ss != nil || err != nil {
		t.Errorf("it resumes under another server name: %v", err)
	}
	cs.ServerName = "shop.example"
	var later tls.Config // the key drains
	derive(t, "default", keysource.Ring{Generation: 2,
		Keys: []keysource.TicketKey{keysource.NewTicketKey(), r.Keys[0]}}).Install(&later, ID{}, nil)
	if ss, _ := later.UnwrapSession(b, cs); ss == nil {
		t.Error("it is declined while its key drains")
	}
	var gone tls.Config
	derive(t, "default", ring(1)).Install(&gone, ID{}, nil)
	if ss, err := gone.UnwrapSession(b, cs); ss != nil || err != nil {
		t.Errorf("it resumes without its key: %v", err)
	}
	var shut tls.Config
	derive(t, "default", r).Install(&shut, ID{}, func(string) bool { return false })
	if ss, err := shut.UnwrapSession(b, cs); ss != nil || err != nil {
		t.Errorf("it resumes for a name that may not be served: %v", err)
	}
}

// state is a session such as crypto/tls makes.
func state(t testing.TB) *tls.SessionState {
	t.Helper()
	// Version 1.3, server, TLS_AES_128_GCM_SHA256, created at 1, a secret of 32 bytes, and nothing
	// more.
	b := slices.Concat([]byte{3, 4, 1, 0x13, 1, 0, 0, 0, 0, 0, 0, 0, 1, 32}, make([]byte, 32),
		[]byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	for range 16 {
		if ss, err := tls.ParseSessionState(b); err == nil {
			return ss
		}
		b = b[:len(b)-1]
	}
	t.Fatal("the form of sessions has changed")
	return nil
}

func FuzzUnwrap(f *testing.F) {
	r := ring(2)
	var c tls.Config
	derive(f, "default", r).Install(&c, ID{1}, nil)
	cs := tls.ConnectionState{Version: tls.VersionTLS13, ServerName: "shop.example"}
	good, err := c.WrapSession(cs, state(f))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:nameSize])
	f.Add(r.Keys[1][:])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		ss, err := c.UnwrapSession(b, cs)
		if err != nil {
			t.Errorf("a bad ticket ends the handshake: %v", err)
		}
		if ss != nil && !bytes.Equal(b[nameSize:], good[nameSize:]) {
			t.Error("a ticket that nobody made is taken")
		}
	})
}
