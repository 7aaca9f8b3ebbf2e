package edgeproxy

import (
	"bytes"
	"errors"
	"strconv"
)

// framing follows the requests of an HTTP/1 connection through the bytes that net/http reads. It
// notes what the head of each request says about the length of its body, since net/http drops part
// of that. It changes nothing. What it notes is compared with what net/http has understood, and a
// request is refused where the two differ.
//
// Source: RFC 9112, sections 6 and 7.1
type framing struct {
	at   position
	left uint64 // left is how much of the body or of the chunk is still to come.

	heads int  // heads counts those that have ended.
	head  head // head is of the last one that has ended.

	next   head // next is of the one that is being read.
	begun  bool // begun is true once the request line of next was read.
	length bool // length is true if the line before was one that says how long the body is.

	line    [lineKept]byte // line has the beginning of the last request line.
	lineLen int
	part    [lineKept]byte // part has the beginning of a line whose end was not read yet.
	partLen int
	cut     bool // cut is true if part lacks something.
	end     byte // end is the last byte of the line, so far.
}

// lineKept is how much of a line is kept.
const lineKept = 128

// position is where in a request a framing is.
type position int

const (
	inHead position = iota
	inBody
	inChunkSize
	inChunk
	inTrailer
	upgraded // what comes is no longer HTTP
	unknown  // the chunks are malformed; no further request is taken
)

// head is what a request says of the length of its body.
type head struct {
	length    int64 // length is -1 if the body is chunked.
	hasLength bool  // hasLength is true if there is a Content-Length.
	hasCoding bool  // hasCoding is true if there is a Transfer-Encoding.
	// unclear is true if a length is not a number, there are two that differ, or one of the two
	// fields is folded. Net/http refuses most of this.
	unclear bool
}

// take follows p, and returns how much of it belongs to the request that was begun. The rest is the
// beginning of the next request.
func (f *framing) take(p []byte) (n int) {
	for n < len(p) {
		switch f.at {
		case upgraded, unknown:
			return len(p)
		case inBody, inChunk:
			more := min(f.left, uint64(len(p)-n))
			n += int(more)
			if f.left -= more; f.left > 0 {
				return n
			}
			if f.at == inBody {
				f.at = inHead
				return n
			}
			f.at = inChunkSize
			continue
		}
		i := bytes.IndexByte(p[n:], '\n')
		if i < 0 {
			f.keep(p[n:])
			return len(p)
		}
		line := p[n : n+i]
		n += i + 1
		if f.partLen > 0 {
			f.keep(line)
			line = f.part[:f.partLen]
		} else if len(line) > 0 {
			f.end = line[len(line)-1]
		}
		ended := f.takeLine(bytes.TrimSuffix(line, []byte("\r")), f.end == '\r')
		if f.partLen, f.cut, f.end = 0, false, 0; ended {
			return n
		}
	}
	return n
}

// keep takes a piece of a line.
func (f *framing) keep(p []byte) {
	n := copy(f.part[f.partLen:], p)
	f.partLen += n
	f.cut = f.cut || n < len(p)
	if len(p) > 0 {
		f.end = p[len(p)-1]
	}
}

// takeLine takes a line without its end, and reports whether the request ends with it. The end has
// a carriage return if cr is true.
func (f *framing) takeLine(line []byte, cr bool) (ended bool) {
	switch {
	case f.at == inChunkSize:
		switch size, ok := chunkSize(line); {
		case !ok:
			f.at = unknown
		case size > 0:
			f.at, f.left = inChunk, size+2 // and the end of its line
		default:
			f.at = inTrailer
		}
	case f.at == inTrailer:
		switch {
		case !cr: // net/http may have read on behind the end
			f.at = unknown
		case len(line) == 0:
			f.at, ended = inHead, true
		}
	case !f.begun:
		if len(line) > 0 { // net/http skips an empty line, or refuses it
			f.begun, f.lineLen = true, copy(f.line[:], line)
		}
	case len(line) == 0:
		return f.endHead()
	default:
		f.field(line)
	}
	return ended
}

// endHead takes the end of a head, and reports whether it is the end of the request.
func (f *framing) endHead() bool {
	f.head = f.next
	f.next, f.begun, f.length = head{}, false, false
	f.heads++
	switch {
	case f.head.hasCoding:
		f.head.length = -1
		f.at = inChunkSize
	case f.head.length > 0:
		f.at, f.left = inBody, uint64(f.head.length)
	default:
		return true
	}
	return false
}

// field takes a line of a head.
func (f *framing) field(line []byte) {
	if line[0] == ' ' || line[0] == '\t' { // obs-fold (RFC 9112, section 5.2)
		f.next.unclear = f.next.unclear || f.length
		return
	}
	f.length = false
	switch line[0] | 0x20 {
	case 'c':
		if value, ok := valueOf(line, "content-length"); ok {
			n, err := strconv.ParseUint(string(value), 10, 63)
			if err != nil || f.cut || f.next.hasLength && int64(n) != f.next.length {
				f.next.unclear = true
			}
			f.next.length, f.next.hasLength, f.length = int64(n), true, true
		}
	case 't':
		if _, ok := valueOf(line, "transfer-encoding"); ok {
			f.next.hasCoding, f.length = true, true
		}
	}
}

// valueOf returns the value of a field with that name.
func valueOf(line []byte, name string) ([]byte, bool) {
	if len(line) <= len(name) || line[len(name)] != ':' || !bytes.EqualFold(line[:len(name)], []byte(name)) {
		return nil, false
	}
	return bytes.Trim(line[len(name)+1:], " \t"), true
}

// chunkSize reads the line before a chunk. What net/http refuses there may be taken here. The
// length is never another one than that of net/http.
func chunkSize(line []byte) (size uint64, ok bool) {
	for i, b := range line {
		switch {
		case '0' <= b && b <= '9':
			b -= '0'
		case 'a' <= b|0x20 && b|0x20 <= 'f':
			b = b | 0x20 - 'a' + 10
		case b == ';' || b == ' ' || b == '\t':
			return size, i > 0
		default:
			return 0, false
		}
		if size >= 1<<58 {
			return 0, false
		}
		size = size<<4 | uint64(b)
	}
	return size, len(line) > 0
}

var (
	errTwoLengths = errors.New("Content-Length together with Transfer-Encoding (RFC 9112, section 6.1)")
	errOldCoding  = errors.New("Transfer-Encoding in HTTP/1.0 (RFC 9112, section 6.1)")
	errUnclear    = errors.New("it is not clear where the request ends")
)

// refuses returns why a request is refused whose body has that length for net/http. It is the
// request with that number, from 1.
func (f *framing) refuses(number int, length int64, old bool) error {
	switch h := f.head; {
	case h.hasLength && h.hasCoding:
		return errTwoLengths
	case h.hasCoding && old:
		return errOldCoding
	case h.unclear, h.length != length, f.heads != number:
		return errUnclear
	}
	return nil
}
