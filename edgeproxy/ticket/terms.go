package ticket

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"slices"

	"github.com/lockstep-tls/lockstep/keysource"
)

// Terms are what a listener demands of a session that is resumed on it. Two listeners with the
// same terms take each other's tickets.
type Terms struct {
	Scope      string
	ClientAuth tls.ClientAuthType
	ClientCAs  [][]byte // DER, in any order
	Clients    []string // the names of which client certificates must have one, in any order
}

// ID is the fingerprint of Terms.
type ID [sha256.Size]byte

// ID returns a hash of every field after its length, so that no two terms give the same bytes.
func (t Terms) ID() ID {
	h := sha256.New()
	write := func(parts ...[]byte) {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(parts)))
		h.Write(n[:])
		for _, p := range parts {
			binary.BigEndian.PutUint64(n[:], uint64(len(p)))
			h.Write(n[:])
			h.Write(p)
		}
	}
	cas := slices.Clone(t.ClientCAs)
	slices.SortFunc(cas, slices.Compare)
	var clients [][]byte
	for _, c := range slices.Sorted(slices.Values(t.Clients)) {
		clients = append(clients, []byte(c))
	}
	write([]byte("lockstep edge terms v1"), []byte(t.Scope), []byte{byte(t.ClientAuth)})
	write(cas...)
	write(clients...)
	return ID(h.Sum(nil))
}

// At returns the terms of connections to an address whose clients name no server.
func (id ID) At(address keysource.Name) ID {
	return sha256.Sum256(slices.Concat(id[:], []byte("address "), []byte(address)))
}

// mark returns what a ticket carries: a hash of the terms and the server name.
func (id ID) mark(serverName string) [sha256.Size]byte {
	return sha256.Sum256(append(id[:len(id):len(id)], serverName...))
}
