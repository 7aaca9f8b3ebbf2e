package main

import (
	"crypto/tls"
	"encoding/binary"
	"slices"
	"sync"

	"golang.org/x/crypto/cryptobyte"
)

// seen is what a handshake shows to who only looks at the wire.
type seen struct {
	Version uint16 // Version is 0 if there was no ServerHello.
	Resumed bool
	Early   bool // Early is true if the client offered early data.
}

// wire reads along what the server of a connection sends, until it knows whether it resumed a
// session. With TLS 1.3 the ServerHello says so. With TLS 1.2 the message after it does: a
// certificate follows in full handshakes only.
type wire struct {
	mu   sync.Mutex
	seen seen
	done bool
	rest []byte // records that are not whole yet
	msgs []byte // handshake messages that are not whole yet
}

func (w *wire) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.done {
		return len(b), nil
	}
	w.rest = append(w.rest, b...)
	for !w.done && len(w.rest) >= 5 {
		size := 5 + int(binary.BigEndian.Uint16(w.rest[3:]))
		if len(w.rest) < size {
			break
		}
		w.record(w.rest[0], w.rest[5:size])
		w.rest = w.rest[size:]
	}
	return len(b), nil
}

func (w *wire) look() seen {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen
}

const (
	recordCipherSpec, recordHandshake          = 20, 22
	clientHello, serverHello, newSessionTicket = 1, 2, 4
	extensionPSK, extensionVersion             = 41, 43
	extensionEarlyData                         = 42
)

// retryRequest is the random of a HelloRetryRequest (RFC 8446, section 4.1.3).
var retryRequest = []byte{
	0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91,
	0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
}

func (w *wire) record(kind byte, b []byte) {
	switch {
	case kind == recordCipherSpec && w.seen.Version == tls.VersionTLS12:
		w.seen.Resumed, w.done = true, true // no certificate came before
	case kind == recordHandshake:
		w.msgs = append(w.msgs, b...)
		for !w.done && len(w.msgs) >= 4 {
			size := 4 + int(w.msgs[1])<<16 + int(binary.BigEndian.Uint16(w.msgs[2:]))
			if len(w.msgs) < size {
				return
			}
			w.message(w.msgs[0], w.msgs[4:size])
			w.msgs = w.msgs[size:]
		}
	}
}

func (w *wire) message(kind byte, b []byte) {
	if kind != serverHello {
		w.seen.Resumed, w.done = w.seen.Version == tls.VersionTLS12 && kind == newSessionTicket, true
		return
	}
	s := cryptobyte.String(b)
	var version, suite uint16
	var random, session []byte
	var compression uint8
	if !s.ReadUint16(&version) || !s.ReadBytes(&random, 32) || !readOpaque8(&s, &session) ||
		!s.ReadUint16(&suite) || !s.ReadUint8(&compression) || slices.Equal(random, retryRequest) {
		return
	}
	all := extensions(s)
	if v := all[extensionVersion]; len(v) == 2 {
		version = binary.BigEndian.Uint16(v)
	}
	w.seen.Version = version
	if version == tls.VersionTLS13 {
		_, w.seen.Resumed = all[extensionPSK]
		w.done = true
	}
}

// offersEarlyData looks at the first record of a client.
func offersEarlyData(record []byte) bool {
	s := cryptobyte.String(record)
	var session, suites, compressions []byte
	var kind uint8
	if !s.Skip(5) || !s.ReadUint8(&kind) || kind != clientHello || !s.Skip(3+2+32) || !readOpaque8(&s, &session) ||
		!s.ReadUint16LengthPrefixed((*cryptobyte.String)(&suites)) || !readOpaque8(&s, &compressions) {
		return false
	}
	_, early := extensions(s)[extensionEarlyData]
	return early
}

func readOpaque8(s *cryptobyte.String, out *[]byte) bool {
	return s.ReadUint8LengthPrefixed((*cryptobyte.String)(out))
}

func extensions(s cryptobyte.String) map[uint16][]byte {
	all := map[uint16][]byte{}
	var list cryptobyte.String
	if !s.ReadUint16LengthPrefixed(&list) {
		return all
	}
	for !list.Empty() {
		var id uint16
		var body cryptobyte.String
		if !list.ReadUint16(&id) || !list.ReadUint16LengthPrefixed(&body) {
			break
		}
		all[id] = body
	}
	return all
}
