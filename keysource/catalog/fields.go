package catalog

import (
	"encoding/binary"
	"time"
)

// fields reads what encode wrote, field by field. After an incomplete field it is broken, and
// reads only zero values.
type fields struct {
	rest   []byte
	broken bool
}

func (f *fields) byte() (b byte) {
	if f.whole(len(f.rest) > 0) {
		b, f.rest = f.rest[0], f.rest[1:]
	}
	return b
}

// text returns a part of what is read, not a copy.
func (f *fields) text() (text []byte) {
	n := f.uvarint()
	if f.whole(n <= uint64(len(f.rest))) {
		text, f.rest = f.rest[:n], f.rest[n:]
	}
	return text
}

// count returns how many texts follow. Each takes at least one byte.
func (f *fields) count() uint64 {
	n := f.uvarint()
	if !f.whole(n <= uint64(len(f.rest))) {
		return 0
	}
	return n
}

func (f *fields) time() time.Time {
	n, size := binary.Varint(f.rest)
	if !f.whole(size > 0) {
		return time.Time{}
	}
	f.rest = f.rest[size:]
	return time.Unix(n, 0).UTC()
}

func (f *fields) uvarint() uint64 {
	n, size := binary.Uvarint(f.rest)
	if !f.whole(size > 0) {
		return 0
	}
	f.rest = f.rest[size:]
	return n
}

// whole reports whether reading may go on.
func (f *fields) whole(ok bool) bool {
	f.broken = f.broken || !ok
	return !f.broken
}
