package seal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	tinkpb "github.com/tink-crypto/tink-go/v2/proto/tink_go_proto"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// KeyID is Tink's ID of a key, which every value carries in the clear. It says nothing of the key.
type KeyID uint32

// String returns the ID in hex.
func (k KeyID) String() string { return fmt.Sprintf("%08x", uint32(k)) }

// State names the keys of a keyset by what they do.
type State struct {
	Primary KeyID   // seals
	Staged  []KeyID // open; the last one seals once every replica has it
	Old     []KeyID // open what they sealed
}

// has reports whether a key is in the keyset.
func (s State) has(id KeyID) bool {
	return s.Primary == id || slices.Contains(s.Staged, id) || slices.Contains(s.Old, id)
}

// All returns the keys in the order of the keyset.
func (s State) All() []KeyID { return slices.Concat(s.Old, []KeyID{s.Primary}, s.Staged) }

// openKeyset is a keyset ready for use. It is never changed.
type openKeyset struct {
	raw     []byte // the bytes as the source has them
	handle  *keyset.Handle
	all     tink.AEAD // seals with the primary key, opens with every key
	primary tink.AEAD // the primary key alone
	state   State
}

// knows reports whether a value names a key of the keyset.
func (o *openKeyset) knows(sealed []byte) bool {
	id, ok := sealedBy(sealed)
	return ok && o.state.has(id)
}

// sealedBy returns the ID of the key that sealed b. A value begins with a byte 1 and the ID, big
// endian (Tink's output prefix).
func sealedBy(b []byte) (KeyID, bool) {
	if len(b) < 5 || b[0] != 1 {
		return 0, false
	}
	return KeyID(binary.BigEndian.Uint32(b[1:])), true
}

// generate returns a new keyset, as JSON.
func generate() ([]byte, error) {
	handle, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		return nil, err
	}
	return marshal(handle)
}

func marshal(handle *keyset.Handle) ([]byte, error) {
	var b bytes.Buffer
	err := insecurecleartextkeyset.Write(handle, keyset.NewJSONWriter(&b))
	return b.Bytes(), err
}

// parse reads a keyset. Its error is fixed text, since a parser's error may quote what it could
// not read.
func parse(b []byte) (*openKeyset, error) {
	handle, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(bytes.NewReader(b)))
	if err != nil {
		return nil, errors.New("not a cleartext Tink keyset in JSON, or damaged")
	}
	o := &openKeyset{raw: b, handle: handle}
	if o.all, err = aead.New(handle); err != nil {
		return nil, errors.New("the keyset is not one of AEAD keys")
	}
	m := keyset.NewManagerFromHandle(handle)
	info := handle.KeysetInfo()
	o.state.Primary = KeyID(info.GetPrimaryKeyId())
	rest := &o.state.Old
	for _, k := range info.GetKeyInfo() {
		if k.GetOutputPrefixType() != tinkpb.OutputPrefixType_TINK {
			return nil, errors.New("the keyset has a key whose values do not carry its ID (output prefix TINK), " +
				"so that nobody could tell what it sealed")
		}
		id := KeyID(k.GetKeyId())
		if id == o.state.Primary {
			rest = &o.state.Staged
			continue
		}
		if k.GetStatus() == tinkpb.KeyStatusType_ENABLED {
			*rest = append(*rest, id)
		}
		if err := m.Delete(uint32(id)); err != nil {
			return nil, errors.New("the keyset has two keys of one ID")
		}
	}
	alone, err := m.Handle()
	if err == nil {
		o.primary, err = aead.New(alone)
	}
	if err != nil {
		return nil, errors.New("the keyset's primary key cannot be used")
	}
	return o, nil
}
