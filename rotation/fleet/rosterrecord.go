package fleet

import (
	"encoding/binary"
	"time"

	"github.com/lockstep-tls/lockstep/rotation"
)

// The stored roster of one replica has about 20 bytes a node. It begins with format, time, flags,
// admin URL and count. Then follow, for each member, node, number, floor, flags, the age of Since
// in milliseconds, and if it refuses, the generation and its words. Lengths and numbers are
// unsigned varints. The flags may get new bits, over which earlier versions pass.
const (
	rosterFormat = 2

	flagAlone = 1

	flagAnswered  = 1
	flagConnected = 2
	flagRefused   = 4
	flagBrought   = 8
	// The rest are passed over by earlier versions.
	flagStuck   = 16
	flagGrouped = 32

	maxNr  = 1 << 20 // maxNr bounds the streams under one id.
	maxAge = 1 << 42 // maxAge is in ms, 139 years.
)

// rosterRecord is what one replica lets the others know of a scope.
type rosterRecord struct {
	peer    Peer // peer has no name, since that is in the store key.
	members []rotation.Member
}

func (r rosterRecord) encode() []byte {
	const usual = 32 // bytes a node
	at := r.peer.At
	b := make([]byte, 0, 64+usual*len(r.members))
	b = append(b, rosterFormat)
	b = binary.AppendUvarint(b, uint64(at.UnixMilli()))
	var flags byte
	if r.peer.Alone {
		flags |= flagAlone
	}
	b = append(b, flags)
	str := func(s string) {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	str(r.peer.Admin)
	b = binary.AppendUvarint(b, uint64(len(r.members)))
	words := maxRosterWords
	for _, m := range r.members {
		str(m.Node)
		b = binary.AppendUvarint(b, uint64(m.Nr))
		b = binary.AppendUvarint(b, m.Floor)
		var flags byte
		if m.Answered {
			flags |= flagAnswered
		}
		if m.Connected {
			flags |= flagConnected
		}
		if m.Refused != 0 {
			flags |= flagRefused
		}
		if m.Brought {
			flags |= flagBrought
		}
		if m.Stuck {
			flags |= flagStuck
		}
		if m.Grouped {
			flags |= flagGrouped
		}
		b = append(b, flags)
		b = binary.AppendUvarint(b, uint64(max(0, at.Sub(m.Since).Milliseconds())))
		if m.Refused != 0 {
			b = binary.AppendUvarint(b, m.Refused)
			if words -= len(m.Words); words < 0 {
				m.Words = ""
			}
			str(m.Words)
		}
	}
	return b
}

func decodeRoster(b []byte) (r rosterRecord, err error) {
	ok := true
	num := func() uint64 {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			ok, b = false, nil
			return 0
		}
		b = b[n:]
		return v
	}
	str := func() string {
		n := num()
		if n > uint64(len(b)) {
			ok, b = false, nil
			return ""
		}
		s := string(b[:n])
		b = b[n:]
		return s
	}
	flag := func() byte {
		if len(b) == 0 {
			ok = false
			return 0
		}
		f := b[0]
		b = b[1:]
		return f
	}
	if len(b) == 0 || b[0] != rosterFormat {
		return rosterRecord{}, errRoster
	}
	b = b[1:]
	at := time.UnixMilli(int64(num()))
	known := func(generation uint64) uint64 {
		ok = ok && generation <= rotation.MaxGeneration
		return generation
	}
	r.peer = Peer{At: at, Alone: flag()&flagAlone != 0, Admin: str()}
	count := num()
	for i := uint64(0); ok && i < count; i++ {
		m := rotation.Member{Node: str(), Nr: int(num()), Floor: known(num())}
		if m.Node == "" || m.Nr < 1 || m.Nr > maxNr {
			return rosterRecord{}, errRoster
		}
		flags := flag()
		m.Answered, m.Connected, m.Brought = flags&flagAnswered != 0, flags&flagConnected != 0, flags&flagBrought != 0
		m.Stuck, m.Grouped = flags&flagStuck != 0, flags&flagGrouped != 0
		age := num()
		ok = ok && age <= maxAge
		m.Since = at.Add(-time.Duration(age) * time.Millisecond)
		if flags&flagRefused != 0 {
			m.Refused, m.Words = known(num()), str()
		}
		r.members = append(r.members, m)
	}
	if !ok || len(b) > 0 {
		return rosterRecord{}, errRoster
	}
	return r, nil
}
