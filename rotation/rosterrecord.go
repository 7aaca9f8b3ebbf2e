package rotation

import (
	"encoding/binary"
	"errors"
	"time"
)

// The stored roster of one replica, about 20 bytes a node: format, time, count, then per member node, number, floor, flags, age of
// Since in milliseconds, and for one that refuses the generation and its words. Lengths and numbers are unsigned varints.
const (
	rosterFormat = 1

	flagAnswered  = 1
	flagConnected = 2
	flagRefused   = 4
)

var errRoster = errors.New("the stored roster is not a record that this version reads")

func encodeRoster(ms []Member, at time.Time) []byte {
	const usual = 32 // bytes a node
	b := make([]byte, 0, 16+usual*len(ms))
	b = append(b, rosterFormat)
	b = binary.AppendUvarint(b, uint64(at.UnixMilli()))
	b = binary.AppendUvarint(b, uint64(len(ms)))
	str := func(s string) {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	for _, m := range ms {
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
		b = append(b, flags)
		b = binary.AppendUvarint(b, uint64(max(0, at.Sub(m.Since).Milliseconds())))
		if m.Refused != 0 {
			b = binary.AppendUvarint(b, m.Refused)
			str(m.Words)
		}
	}
	return b
}

func decodeRoster(b []byte) (ms []Member, at time.Time, err error) {
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
	if len(b) == 0 || b[0] != rosterFormat {
		return nil, time.Time{}, errRoster
	}
	b = b[1:]
	at = time.UnixMilli(int64(num()))
	count := num()
	for i := uint64(0); ok && i < count; i++ {
		m := Member{Node: str(), Nr: int(num()), Floor: num()}
		if len(b) == 0 || m.Node == "" || m.Nr < 1 {
			return nil, time.Time{}, errRoster
		}
		flags := b[0]
		b = b[1:]
		m.Answered, m.Connected = flags&flagAnswered != 0, flags&flagConnected != 0
		m.Since = at.Add(-time.Duration(num()) * time.Millisecond)
		if flags&flagRefused != 0 {
			m.Refused, m.Words = num(), str()
		}
		ms = append(ms, m)
	}
	if !ok || len(b) > 0 {
		return nil, time.Time{}, errRoster
	}
	return ms, at, nil
}
