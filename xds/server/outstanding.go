package server

import (
	"math/rand/v2"
	"strconv"
)

// outstanding holds the responses that wait for an acknowledgement, and counts how much of what
// was sent the node has read.
//
// Responses arrive in order. So the acknowledgement of one shows that all before it were read,
// whether or not they will be acknowledged themselves. A nonce is random and stands at the end of
// its response. So a node that names it has read the bytes before it.
type outstanding struct {
	first uint64 // number of recs[0]
	recs  []*record

	sent, acked           uint64 // bytes, from the stream's start
	sentCount, ackedCount uint64 // responses
}

// record is one response.
type record struct {
	nonce string
	items []item // empty if the response has removals only
	end   uint64 // bytes sent on the stream up to the end of this response
}

// item is one resource of a response.
type item struct {
	e       *entry
	version string // the content's version
	counts  bool   // reports whether an ACK of it says that the node uses it
	remedy  bool   // reports whether it replaces a version that the node had refused
	standIn bool
}

const randomDigits = 16 // hexadecimal digits of a nonce; the response's number follows

// nonce returns the nonce of the next response.
func (o *outstanding) nonce() string {
	b := make([]byte, 0, randomDigits+8)
	// The top bit keeps the number of digits constant.
	b = strconv.AppendUint(b, rand.Uint64()|1<<63, 16)
	b = strconv.AppendUint(b, o.sentCount, 16)
	return string(b)
}

// add notes the next response, of size bytes. keep bounds how many are remembered.
func (o *outstanding) add(r *record, size, keep int) {
	if len(o.recs) == 0 {
		o.recs, o.first = nil, o.sentCount
	}
	o.sent += uint64(size)
	o.sentCount++
	r.end = o.sent
	o.recs = append(o.recs, r)
	for len(o.recs) > keep {
		o.pop()
	}
}

// take returns the response of nonce and forgets it. It returns nil if the nonce is not
// outstanding. The cost does not depend on how many are outstanding.
func (o *outstanding) take(nonce string) *record {
	if len(nonce) <= randomDigits {
		return nil
	}
	n, err := strconv.ParseUint(nonce[randomDigits:], 16, 64)
	if err != nil || n < o.first || n-o.first >= uint64(len(o.recs)) {
		return nil
	}
	i := n - o.first
	r := o.recs[i]
	if r == nil || r.nonce != nonce {
		return nil
	}
	o.recs[i] = nil
	for len(o.recs) > 0 && o.recs[0] == nil {
		o.pop()
	}
	o.acked = max(o.acked, r.end)
	o.ackedCount = max(o.ackedCount, n+1)
	return r
}

func (o *outstanding) pop() {
	o.recs[0] = nil
	o.recs = o.recs[1:]
	o.first++
}

func (o *outstanding) bytes() int { return int(o.sent - o.acked) }
func (o *outstanding) count() int { return int(o.sentCount - o.ackedCount) }
