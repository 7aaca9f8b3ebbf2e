package keysource

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
)

// TicketKeySize is the length of a session ticket key in bytes: 16 for the name, 32 for
// HMAC-SHA256, 32 for AES-256. It is the layout of Envoy's TlsSessionTicketKeys and of nginx's
// 80-byte ssl_session_ticket_key files.
const TicketKeySize = 80

// TicketKey is one session ticket key.
type TicketKey [TicketKeySize]byte

// NewTicketKey returns a new random key.
func NewTicketKey() (k TicketKey) {
	rand.Read(k[:]) // never fails (crypto/rand)
	return k
}

// ID names the key in public. It is the first 8 bytes of the SHA-256 of its 16-byte name, in hex.
// The name stands in clear at the start of every ticket, so whoever has a ticket can tell which
// key made it. Nothing secret is part of the ID.
func (k TicketKey) ID() string { return TicketKeyID(k[:16]) }

// TicketKeyID returns the [TicketKey.ID] of the key that made a ticket, from the ticket's first 16
// bytes.
func TicketKeyID(name []byte) string {
	sum := sha256.Sum256(name)
	return hex.EncodeToString(sum[:8])
}

// Fingerprint returns a SHA-256 of the whole key. It is what is kept of a burnt key, so that the
// key is recognised wherever it enters.
func (k TicketKey) Fingerprint() string {
	sum := sha256.Sum256(k[:])
	return hex.EncodeToString(sum[:])
}

// ParseTicketKey reads a key as a file has it: 80 raw bytes. The error wraps [ErrBadTicketKey],
// and says which tool made the file.
func ParseTicketKey(b []byte) (TicketKey, error) {
	if len(b) == 48 {
		return TicketKey{}, fmt.Errorf("%w: 48 bytes is the AES-128 form of nginx, which Envoy cannot use: make "+
			"one of 80 (openssl rand 80)", ErrBadTicketKey)
	}
	if len(b) != TicketKeySize {
		return TicketKey{}, fmt.Errorf("%w: %d bytes, must be %d (openssl rand %d)", ErrBadTicketKey, len(b),
			TicketKeySize, TicketKeySize)
	}
	k := TicketKey(b)
	if err := k.Check(); err != nil {
		return TicketKey{}, err
	}
	return k, nil
}

// Check refuses keys that cannot have come from a random source. The error wraps
// [ErrBadTicketKey]. It refuses a good key with a probability far below 2^-60.
func (k TicketKey) Check() error {
	weak := func(why string) error {
		return fmt.Errorf("%w: weak: %s: make one with openssl rand %d", ErrBadTicketKey, why, TicketKeySize)
	}
	for _, part := range []struct {
		name string
		b    []byte
	}{{"name", k[:16]}, {"HMAC key", k[16:48]}, {"AES key", k[48:]}} {
		switch {
		case allSame(part.b):
			return weak("its " + part.name + " repeats one byte")
		case steps(part.b):
			return weak("its " + part.name + " counts up or down")
		case periodic(part.b):
			return weak("its " + part.name + " repeats a pattern")
		case published[hex.EncodeToString(part.b)]:
			return weak("its " + part.name + " is a published test vector")
		}
	}
	if bytes.Equal(k[16:48], k[48:]) {
		return weak("its HMAC and AES keys are the same")
	}
	if !slices.ContainsFunc(k[:], func(c byte) bool { return (c < 0x20 || c > 0x7e) && c != '\n' && c != '\r' }) {
		return weak("it is text, perhaps base64 or hex that was not decoded")
	}
	return nil
}

// published has test vectors that everybody knows and whose shape does not show what they are.
// Counters and repetitions (FIPS 197, RFC 4231) are refused by their shape.
var published = map[string]bool{
	// AES-256, NIST SP 800-38A F.1.5
	"603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4": true,
	// AES-256, the GCM specification, test case 15
	"feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308": true,
}

func allSame(b []byte) bool {
	return !slices.ContainsFunc(b, func(c byte) bool { return c != b[0] })
}

// steps reports whether each byte differs from the one before by the same amount (00 01 02 …, ff
// fe fd …, 00 10 20 …).
func steps(b []byte) bool {
	for i := 2; i < len(b); i++ {
		if b[i]-b[i-1] != b[1]-b[0] {
			return false
		}
	}
	return true
}

// periodic reports whether the bytes are a shorter pattern repeated.
func periodic(b []byte) bool {
	for p := 1; p <= len(b)/2; p++ {
		if bytes.Equal(b[p:], b[:len(b)-p]) {
			return true
		}
	}
	return false
}
