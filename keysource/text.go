package keysource

import (
	"bytes"
	"encoding/binary"
	"regexp"
	"unicode/utf16"
)

var (
	byteOrderMark = []byte("\uFEFF")
	joined        = []byte("----------BEGIN ") // the ends of two lines
	indented      = regexp.MustCompile(`(?m)^[ \t]+-----(BEGIN|END) `)
	indent        = regexp.MustCompile(`(?m)^[ \t]+`)
)

// plainText returns b as [pem.Decode] reads it, and notes of what was changed for that. Editors and
// shells of Windows write UTF-16, byte order marks, and \r. A file without a last line break, to
// which another one was added, joins two lines. What is copied out of YAML is indented.
func plainText(b []byte) (_ []byte, notes []string) {
	if text, ok := fromUTF16(b); ok {
		b, notes = text, append(notes, "the file is UTF-16, which is read as UTF-8")
	}
	if bytes.Contains(b, byteOrderMark) {
		b = bytes.ReplaceAll(b, byteOrderMark, nil)
		if len(notes) == 0 {
			notes = append(notes, "the file has a byte order mark, which is left out")
		}
	}
	if !bytes.ContainsRune(b, '\n') && bytes.ContainsRune(b, '\r') {
		b = bytes.ReplaceAll(b, []byte("\r"), []byte("\n"))
		notes = append(notes, `the lines end with \r, which is read as a line break`)
	}
	if bytes.Contains(b, joined) {
		b = bytes.ReplaceAll(b, joined, []byte("-----\n-----BEGIN "))
		notes = append(notes, "a line break between two blocks is missing, and was put there")
	}
	if indented.Match(b) {
		b = indent.ReplaceAll(b, nil)
		notes = append(notes, "the lines are indented, which is left out")
	}
	return b, notes
}

// fromUTF16 reads UTF-16 in either byte order, with a byte order mark or from the first dash on.
func fromUTF16(b []byte) ([]byte, bool) {
	var order binary.ByteOrder
	switch {
	case len(b) < 2 || len(b)%2 != 0:
		return nil, false
	case b[0] == 0xff && b[1] == 0xfe, b[0] == '-' && b[1] == 0:
		order = binary.LittleEndian
	case b[0] == 0xfe && b[1] == 0xff, b[0] == 0 && b[1] == '-':
		order = binary.BigEndian
	default:
		return nil, false
	}
	units := make([]uint16, len(b)/2)
	for i := range units {
		units[i] = order.Uint16(b[2*i:])
	}
	return []byte(string(utf16.Decode(units))), true
}
