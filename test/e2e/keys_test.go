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

// TestKeysOfTheOperator: bad ones are refused by name, before anything changes; a good one is what the Envoys then encrypt with; burnt, it
// never comes back.
func TestKeysOfTheOperator(t *testing.T) {
	s := set(t, play{})
	s.fleetOf(2)
	first := s.phase("steady", 2)
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
		s.fails(5, bad.words, "rotate", "--key-file", file)
		s.fails(5, file, "rotate", "--key-file", file)
	}
	if now := s.now(); now.Version != first.Version || now.Rotation != 0 {
		t.Errorf("a refused key changed something: %s, rotation %d", now.Version, now.Rotation)
	}
	a.check("bad keys")

	file, want := s.file("good.key", random), keysource.TicketKey(random).ID()
	s.done("rotate", "--wait", "--key-file", file)
	s.makes(want)
	a.inUse()
	a.cross("the operator's key")
	s.fails(5, "holds a key of that name already", "rotate", "--key-file", file)
	namesake := weak(func(k []byte) { rand.Read(k[16:]) })
	s.fails(5, "holds a key of that name already", "rotate", "--key-file", s.file("namesake.key", namesake))

	second := keysource.NewTicketKey()
	text := s.file("base64.key", []byte(base64.StdEncoding.EncodeToString(second[:])+"\n"))
	s.done("rotate", "--wait", "--key-file", text)
	s.makes(second.ID())
	a.inUse()
	a.cross("a key in base64")

	a.stop()
	s.done("burn", "--yes", "--wait")
	for _, burnt := range []string{file, text} {
		s.fails(5, "was burnt", "rotate", "--key-file", burnt)
	}
	b := s.clients()
	s.done("rotate", "--wait")
	b.inUse()
	b.cross("the burn")
}

// makes demands that tickets of every Envoy are made with the key, for both TLS versions.
func (s *stage) makes(id string) {
	s.t.Helper()
	for _, e := range s.envoys {
		for _, v := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			s.soon(func() error {
				r, err := probe.Dial(s.ctx, e.addr, probe.Config{SNI: s.hosts[0], RootCAs: s.ca.Pool(), Versions: []uint16{v}}, nil)
				if err == nil && (r.Session == nil || r.Session.KeyID != id) {
					err = fmt.Errorf("%s, %s: %+v, want a ticket of key %s", e.name, tls.VersionName(v), r.Session, id)
				}
				return err
			})
		}
	}
}

// TestTooManyKeys: rotating again and again fills the ring, and then is refused until a key retires; nobody is turned away meanwhile.
func TestTooManyKeys(t *testing.T) {
	s := set(t, play{scopes: "  default: {ticket_lifetime: 10m}\n"})
	s.fleetOf(2)
	s.phase("steady", 2)
	a := s.clients()
	for i := range keysource.MaxRing - 1 {
		s.done("rotate", "--wait")
		if i%5 == 0 {
			a.inUse()
			a.cross("one more rotation")
		}
	}
	full := s.now()
	if len(full.Keys) != keysource.MaxRing {
		t.Fatalf("%d keys in the ring", len(full.Keys))
	}
	s.fails(5, "the ring is full: 15 keys still drain", "rotate")
	one := keysource.NewTicketKey()
	s.fails(5, "the ring is full", "rotate", "--key-file", s.file("one.key", one[:]))
	s.fails(5, "the ring is full", "rollback")
	if out := s.done("plan"); !strings.Contains(out, "full") {
		t.Errorf("plan does not say what blocks: %s", out)
	}
	if now := s.now(); now.Version != full.Version {
		t.Errorf("%s became %s", full.Version, now.Version)
	}
	a.inUse()
	a.cross("the ring was full")
}
