package keysource_test

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/lockstep-tls/lockstep/keysource"
)

// with returns a good key with part of it overwritten.
func with(at int, b []byte) keysource.TicketKey {
	k := keysource.NewTicketKey()
	copy(k[at:], b)
	return k
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

func counter(n, start, step int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(start + i*step)
	}
	return b
}

func TestWeakKeysAreRefused(t *testing.T) {
	half := random(32)
	unhex := func(s string) []byte { b, err := hex.DecodeString(s); check(t, err); return b }
	text := func(s string) keysource.TicketKey { return keysource.TicketKey([]byte(s)) }
	for name, c := range map[string]struct {
		key   keysource.TicketKey
		words string
	}{
		"all zero":          {keysource.TicketKey{}, "name repeats one byte"},
		"all ff":            {with(0, bytes.Repeat([]byte{255}, 80)), "repeats one byte"},
		"zero name":         {with(0, make([]byte, 16)), "name repeats one byte"},
		"zero HMAC key":     {with(16, make([]byte, 32)), "HMAC key repeats one byte"},
		"zero AES key":      {with(48, make([]byte, 32)), "AES key repeats one byte"},
		"counter":           {with(0, counter(80, 0, 1)), "name counts"},
		"AES counter":       {with(48, counter(32, 0, 1)), "AES key counts"}, // FIPS 197 C.3
		"counter downwards": {with(16, counter(32, 255, -1)), "HMAC key counts"},
		"counter by 16":     {with(48, counter(32, 0, 16)), "AES key counts"},
		"pattern of 4": {with(16, bytes.Repeat([]byte{0xde, 0xad, 0xbe, 0xef}, 8)),
			"HMAC key repeats a pattern"},
		"pattern cut short": {with(48, bytes.Repeat([]byte{1, 200, 7}, 11)[:32]), "AES key repeats a pattern"},
		"one half twice":    {with(48, bytes.Repeat(half[:16], 2)), "AES key repeats a pattern"},
		"halves equal":      {with(16, append(bytes.Clone(half), half...)), "HMAC and AES keys are the same"},
		"SP 800-38A": {with(48, unhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")),
			"published test vector"},
		"GCM vector as HMAC": {with(16, unhex("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308")),
			"HMAC key"},
		"base64 text":        {text(base64.StdEncoding.EncodeToString(random(60))), "it is text"},
		"hex text":           {text(hex.EncodeToString(random(40))), "it is text"},
		"text with newlines": {text(base64.StdEncoding.EncodeToString(random(57))[:76] + "\nab\n"), "it is text"},
	} {
		err := c.key.Check()
		if !errors.Is(err, keysource.ErrBadTicketKey) || !strings.Contains(err.Error(), c.words) ||
			!strings.Contains(err.Error(), "openssl rand 80") {
			t.Errorf("%s: got %v, want %q and the next step", name, err, c.words)
		}
		ring := keysource.Ring{Generation: 1, Keys: []keysource.TicketKey{keysource.NewTicketKey(), c.key}}
		if err := ring.Check(); !errors.Is(err, keysource.ErrBadTicketKey) || !strings.Contains(err.Error(), "key 1") {
			t.Errorf("%s: the ring says %v", name, err)
		}
	}
}

func TestParseTicketKey(t *testing.T) {
	good := keysource.NewTicketKey()
	if k, err := keysource.ParseTicketKey(good[:]); err != nil || k != good {
		t.Errorf("a good key: %v", err)
	}
	for n, words := range map[int]string{0: "0 bytes, must be 80", 48: "AES-128 form of nginx",
		79: "79 bytes, must be 80", 81: "81 bytes", 160: "160 bytes"} {
		k, err := keysource.ParseTicketKey(random(n))
		if !errors.Is(err, keysource.ErrBadTicketKey) || !strings.Contains(err.Error(), words) ||
			k != (keysource.TicketKey{}) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	if k, err := keysource.ParseTicketKey(make([]byte, 80)); !errors.Is(err, keysource.ErrBadTicketKey) ||
		k != (keysource.TicketKey{}) {
		t.Errorf("zeros: %v", err)
	}
}

func TestRandomKeysAreNeverRefused(t *testing.T) {
	for range 100_000 {
		k := keysource.NewTicketKey()
		if err := k.Check(); err != nil {
			t.Fatalf("%x: %v", k[:], err)
		}
	}
}

func TestKeyIDIsOfTheNameAlone(t *testing.T) {
	k := keysource.NewTicketKey()
	other := k
	other[79]++
	if k.ID() != other.ID() || k.ID() != keysource.TicketKeyID(k[:16]) {
		t.Error("the ID depends on more than the name")
	}
	if k.Fingerprint() == other.Fingerprint() {
		t.Error("the fingerprint does not cover the last byte")
	}
}

func TestRingCheck(t *testing.T) {
	keys := make([]keysource.TicketKey, 17)
	for i := range keys {
		keys[i] = keysource.NewTicketKey()
	}
	twin := keysource.NewTicketKey()
	copy(twin[:16], keys[2][:16])
	for name, c := range map[string]struct {
		keys  []keysource.TicketKey
		words string // "": fine
	}{
		"one": {keys[:1], ""}, "sixteen": {keys[:16], ""},
		"none": {nil, "0 keys"}, "seventeen": {keys, "17 keys"},
		"the same key twice":   {append(keys[:3:3], keys[0]), "two keys of one name (" + keys[0].ID()},
		"two keys of one name": {append(keys[:3:3], twin), "two keys of one name (" + twin.ID()},
	} {
		err := keysource.Ring{Keys: c.keys}.Check()
		if c.words == "" && err != nil || c.words != "" &&
			(!errors.Is(err, keysource.ErrBadTicketKey) || !strings.Contains(err.Error(), c.words)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRingVersion(t *testing.T) {
	a, b := keysource.NewTicketKey(), keysource.NewTicketKey()
	ring := func(g uint64, keys ...keysource.TicketKey) keysource.Ring {
		return keysource.Ring{Generation: g, Keys: keys}
	}
	seen := map[string]bool{}
	for _, r := range []keysource.Ring{ring(1, a), ring(2, a), ring(1, b), ring(1, a, b), ring(1, b, a), ring(0),
		ring(math.MaxUint64, a)} {
		v := r.Version()
		if seen[v] {
			t.Errorf("%s twice", v)
		}
		seen[v] = true
		if g, ok := keysource.ParseRingVersion(v); !ok || g != r.Generation {
			t.Errorf("%s: %d, %v", v, g, ok)
		}
	}
	for _, v := range []string{
		"", "g", "g-", "g1", "g1-", "1-abcdefabcdef", "g1-abcdefabcde", "g1-abcdefabcdeff", "g1-abcdefabcdeg",
		"g1-ABCDEFABCDEF", "g01-abcdefabcdef",
		"g+1-abcdefabcdef", "g-1-abcdefabcdef", "g18446744073709551616-abcdefabcdef", " g1-abcdefabcdef",
		"g1-abcdefabcdef ", "x",
	} {
		if g, ok := keysource.ParseRingVersion(v); ok || g != 0 {
			t.Errorf("%q was taken as generation %d", v, g)
		}
	}
}

func FuzzParseRingVersion(f *testing.F) {
	f.Add("g1-0123456789ab")
	f.Add("g18446744073709551615-0123456789ab")
	f.Add("g1--")
	f.Fuzz(func(t *testing.T, v string) {
		g, ok := keysource.ParseRingVersion(v)
		if !ok {
			return
		}
		made := keysource.Ring{Generation: g}.Version() // the same but for the hash
		if i := strings.IndexByte(made, '-'); v[:i+1] != made[:i+1] || len(v) != len(made) {
			t.Fatalf("%q was taken, which is never written (%q)", v, made)
		}
	})
}

func TestRingNames(t *testing.T) {
	if s, ok := keysource.RingScope(keysource.RingName("default")); !ok || s != "default" {
		t.Errorf("%q, %v", s, ok)
	}
	for _, n := range []string{"", "default", "shop.example", "Tickets/default"} {
		if _, ok := keysource.RingScope(n); ok {
			t.Errorf("%q is no ring", n)
		}
	}
}
