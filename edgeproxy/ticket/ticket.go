// Package ticket makes crypto/tls issue and take session tickets with the keys of a ring.
//
// Its rules:
//
//   - A ticket is bound to the terms under which its session was made. A ticket carries the
//     client's verification along. So a ticket that crossed to another listener would let in a
//     client that this listener never verified.
//   - The state of a session is in its ticket. Any process with the same ring and the same terms
//     resumes it.
//   - A ticket that cannot be used is declined, and a full handshake follows. It is never an
//     error.
//
// It does not know where rings come from.
package ticket

import (
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"fmt"

	"github.com/lockstep-tls/lockstep/keysource"
)

// label keeps these keys apart from any other use of a ring. Envoy makes its tickets with the
// ring's keys themselves.
const label = "lockstep edge session ticket v1"

// nameSize is how many bytes of a ticket name the key that made it, in the clear (RFC 5077,
// section 4). So a probe can tell which key it was, as with Envoy.
const nameSize = 16

// Keys are the keys of a ring, as crypto/tls needs them. The zero value has none, and makes no
// tickets.
type Keys struct {
	names [][nameSize]byte
	keys  [][32]byte
}

// Derive makes the keys of scope from its ring. It is HKDF-SHA256 (RFC 5869) of each key's 64
// secret bytes. The salt is the key's name, the info is a label and the scope.
func Derive(scope string, r keysource.Ring) (k Keys, err error) {
	for _, key := range r.Keys {
		b, err := hkdf.Key(sha256.New, key[nameSize:], key[:nameSize], label+"\x00"+scope, 32)
		if err != nil {
			return Keys{}, fmt.Errorf("ticket: deriving from key %s: %w", key.ID(), err)
		}
		k.names = append(k.names, [nameSize]byte(key[:nameSize]))
		k.keys = append(k.keys, [32]byte(b))
	}
	return k, nil
}

// Install makes c issue tickets with the first key and take those of all keys. A ticket is bound
// to id and to the server name for which the client asked: a session of another name must not be
// resumed (RFC 6066, section 3). A ticket of other terms is declined, so that a full handshake
// follows. Before a session is resumed, allow is asked whether its server name may be served now.
// It may block, and nil allows all. c must not have been used yet, and must not be cloned
// afterwards.
func (k Keys) Install(c *tls.Config, id ID, allow func(serverName string) bool) {
	if len(k.keys) == 0 {
		c.SessionTicketsDisabled = true
		return
	}
	c.SetSessionTicketKeys(k.keys)
	c.WrapSession = func(cs tls.ConnectionState, ss *tls.SessionState) ([]byte, error) {
		mark := id.mark(cs.ServerName)
		ss.Extra = append(ss.Extra, mark[:])
		sealed, err := c.EncryptTicket(cs, ss)
		return append(append(make([]byte, 0, nameSize+len(sealed)), k.names[0][:]...), sealed...), err
	}
	c.UnwrapSession = func(ticket []byte, cs tls.ConnectionState) (*tls.SessionState, error) {
		if !k.made(ticket) {
			return nil, nil
		}
		ss, err := c.DecryptTicket(ticket[nameSize:], cs)
		if err != nil || ss == nil {
			return nil, nil // damaged or forged, which is the same as no ticket
		}
		mark := id.mark(cs.ServerName)
		for _, extra := range ss.Extra {
			if subtle.ConstantTimeCompare(extra, mark[:]) == 1 && (allow == nil || allow(cs.ServerName)) {
				return ss, nil
			}
		}
		return nil, nil
	}
}

// made reports whether the ticket says that a key of the ring made it.
func (k Keys) made(ticket []byte) bool {
	if len(ticket) <= nameSize {
		return false
	}
	for i := range k.names {
		if string(k.names[i][:]) == string(ticket[:nameSize]) {
			return true
		}
	}
	return false
}
