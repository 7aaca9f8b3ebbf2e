package e2e

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/probe"
)

// TestKeysOfTheOperator: bad ones are refused by name, before anything changes; a good one is what
// the Envoys then encrypt with; burnt, it never comes back.
func TestKeysOfTheOperator(t *testing.T) {
	s := newStage(t, setup{})
	s.fleetOf(2)
	first := s.awaitPhase("steady", 2)
	a := s.clients()

	random := make([]byte, keysource.TicketKeySize)
	rand.Read(random)
	weak := func(change func(k []byte)) []byte {
		k := bytes.Clone(random)
		change(k)
		return k
	}
	for _, bad := range []struct {
		name, words string
		key         []byte
	}{
		{"zero", "weak: its name repeats one byte", make([]byte, 80)},
		{"repeated", "weak: its AES key repeats a pattern", weak(func(k []byte) { copy(k[64:], k[48:64]) })},
		{"counting", "weak: its HMAC key counts", weak(func(k []byte) {
			for i := range 32 {
				k[16+i] = byte(i)
			}
		})},
		{"same", "weak: its HMAC and AES keys are the same", weak(func(k []byte) { copy(k[48:], k[16:48]) })},
		{"short", "79 bytes, must be 80", random[:79]},
		{"nginx", "48 bytes is the AES-128 form of nginx", random[:48]},
		{"empty", "0 bytes, must be 80", nil},
	} {
		file := s.file(bad.name+".key", bad.key)
		s.mustFail(5, bad.words, "rotate", "--key-file", file)
		s.mustFail(5, file, "rotate", "--key-file", file)
	}
	if now := s.scope(); now.Version != first.Version || now.Rotation != 0 {
		t.Errorf("a refused key changed something: %s, rotation %d", now.Version, now.Rotation)
	}
	a.check("bad keys")

	file, want := s.file("good.key", random), keysource.TicketKey(random).ID()
	s.mustRun("rotate", "--wait", "--key-file", file)
	s.makes(want)
	a.awaitKeyInUse()
	a.cross("the operator's key")
	s.mustFail(5, "holds a key of that name already", "rotate", "--key-file", file)
	namesake := weak(func(k []byte) { rand.Read(k[16:]) })
	s.mustFail(5, "holds a key of that name already", "rotate", "--key-file", s.file("namesake.key", namesake))

	second := keysource.NewTicketKey()
	text := s.file("base64.key", []byte(base64.StdEncoding.EncodeToString(second[:])+"\n"))
	s.mustRun("rotate", "--wait", "--key-file", text)
	s.makes(second.ID())
	a.awaitKeyInUse()
	a.cross("a key in base64")

	a.stop()
	s.mustRun("burn", "--yes", "--wait")
	for _, burnt := range []string{file, text} {
		s.mustFail(5, "was burnt", "rotate", "--key-file", burnt)
	}
	b := s.clients()
	s.mustRun("rotate", "--wait")
	b.awaitKeyInUse()
	b.cross("the burn")
}

// makes demands that tickets of every Envoy are made with the key, for both TLS versions.
func (s *stage) makes(id string) {
	s.t.Helper()
	for _, e := range s.envoys {
		for _, v := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			s.eventually(func() error {
				r, err := probe.Dial(s.ctx, e.addr,
					probe.Config{SNI: s.hosts[0], RootCAs: s.ca.Pool(), Versions: []uint16{v}}, nil)
				if err == nil && (r.Session == nil || r.Session.KeyID != id) {
					err = fmt.Errorf("%s, %s: %+v, want a ticket of key %s", e.name, tls.VersionName(v), r.Session, id)
				}
				return err
			})
		}
	}
}

// TestTooManyKeys: rotating again and again leaves room for other requesters, and for a rollback,
// which fills the ring. Then both are refused until a key retires; nobody is turned away meanwhile.
func TestTooManyKeys(t *testing.T) {
	s := newStage(t, setup{scopes: "  default: {ticket_lifetime: 10m}\n"})
	s.fleetOf(2)
	s.awaitPhase("steady", 2)
	a := s.clients()
	keys := 1
	rotate := func(flags ...string) {
		s.mustRun(append(flags, "rotate", "--wait")...)
		if keys++; keys%5 == 0 {
			a.awaitKeyInUse()
			a.cross("one more rotation")
		}
	}
	for _, who := range []struct {
		name  string
		times int
		words string
	}{
		{"", 7, "local administrator has brought 7 of the ring's 8 keys, and the room that is left is for others"},
		{"ann", 3, "token ann has brought 3 of"}, {"bob", 2, "token bob has brought 2 of"},
		{"cas", 1, "token cas has brought 1 of"}, {"dee", 1, "the ring has no room for a rotation that is asked for"},
	} {
		var flags []string
		if who.name != "" {
			secret := s.mustRun("token", "new", "--name", who.name, "--role", "operate")
			file := s.file(who.name+".token", []byte(secret))
			flags = []string{"--token-file", file}
		}
		if got := s.scope().Requests.Left; got != 15-keys {
			t.Errorf("%d rotations may be asked for with %d keys", got, keys)
		}
		for range who.times {
			rotate(flags...)
		}
		s.mustFail(5, who.words, append(flags, "rotate")...)
		s.mustFail(5, "ask again in 10m", append(flags, "rotate")...)
	}
	s.mustRun("rollback", "--wait")
	full := s.scope()
	if len(full.Keys) != keysource.MaxRing {
		t.Fatalf("%d keys in the ring", len(full.Keys))
	}
	one := keysource.NewTicketKey()
	s.mustFail(5, "the ring has no room", "rotate", "--key-file", s.file("one.key", one[:]))
	s.mustFail(5, "the ring has no room", "rollback")
	if out := s.mustRun("plan"); !strings.Contains(out, "no room") {
		t.Errorf("plan does not say what blocks: %s", out)
	}
	if now := s.scope(); now.Version != full.Version {
		t.Errorf("%s became %s", full.Version, now.Version)
	}
	a.awaitKeyInUse()
	a.cross("the ring was full")
}
