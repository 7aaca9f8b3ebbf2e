// Package seal encrypts values before they leave the process: AES-256-GCM, under a Tink keyset in a file that only its owner may
// read.
//
// The file is Tink's JSON form of a cleartext keyset, so that tinkey rotates it: the primary key seals, every enabled key opens.
// Whoever has the file can open whatever was sealed with it; whoever loses it, nothing. No error, log line or message holds
// key material.
package seal

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// Sealer seals and opens. It is safe for concurrent use, and made by [Load], [Create] or [LoadOrCreate].
type Sealer struct{ aead tink.AEAD }

// ErrOpen: the bytes were not sealed with a key of this keyset, or not with that associated data, or were changed since.
var ErrOpen = errors.New("seal: wrong key, wrong associated data, or changed bytes")

// Seal encrypts plain, and binds it to ad, which must be given again to Open. The result is about 33 bytes longer, and another one
// each time.
func (s *Sealer) Seal(plain, ad []byte) ([]byte, error) { return s.aead.Encrypt(plain, ad) }

// Open undoes Seal. The error is [ErrOpen].
func (s *Sealer) Open(sealed, ad []byte) ([]byte, error) {
	plain, err := s.aead.Decrypt(sealed, ad)
	if err != nil {
		return nil, ErrOpen
	}
	if plain == nil {
		plain = []byte{}
	}
	return plain, nil
}

// Format keeps the keys out of every message, whatever the verb.
func (s *Sealer) Format(f fmt.State, _ rune) { fmt.Fprint(f, "sealing keyset") }

// LogValue keeps the keys out of every log.
func (s *Sealer) LogValue() slog.Value { return slog.StringValue("sealing keyset") }

// generate makes a new keyset, and its JSON.
func generate() (*Sealer, []byte, error) {
	handle, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		return nil, nil, err
	}
	var b bytes.Buffer
	if err := insecurecleartextkeyset.Write(handle, keyset.NewJSONWriter(&b)); err != nil {
		return nil, nil, err
	}
	primitive, err := aead.New(handle)
	if err != nil {
		return nil, nil, err
	}
	return &Sealer{primitive}, b.Bytes(), nil
}

// parse reads a keyset. Its error is fixed text: a parser's words may quote what it could not read.
func parse(b []byte) (*Sealer, error) {
	handle, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(bytes.NewReader(b)))
	if err != nil {
		return nil, errors.New("not a cleartext Tink keyset in JSON, or damaged")
	}
	primitive, err := aead.New(handle)
	if err != nil {
		return nil, errors.New("the keyset is not one of AEAD keys")
	}
	return &Sealer{primitive}, nil
}
