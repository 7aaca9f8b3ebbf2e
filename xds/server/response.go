package server

import (
	"time"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/lockstep-tls/lockstep/xds"
)

// Field numbers of DiscoveryResponse and DeltaDiscoveryResponse.
const (
	fieldVersionInfo = 1 // SotW
	fieldTypeURL     = 4
	fieldNonce       = 5
	fieldRemoved     = 6 // delta
)

// response is an encoded discovery response. It has the bytes of its resources, which all streams
// share, and an envelope of its own. Protobuf allows fields in any order, so the envelope comes
// last, with the nonce in it.
type response struct {
	parts mem.BufferSlice
	size  int
	// prompt reports that the transport takes the response without blocking, since little is
	// unacknowledged.
	prompt bool
}

// batch is a response that is being built. It holds resources or removals, never both: a refusal
// must not undo a removal.
type batch struct {
	sub   *subscription
	items []item
	parts mem.BufferSlice
	own   []byte // the fields that only this stream sends
	count int
	size  int
	alone bool
}

func (b *batch) part(p []byte) {
	if len(p) > 0 {
		if b.parts == nil {
			// Most pushes have one resource and the envelope.
			b.parts = make(mem.BufferSlice, 0, 3)
		}
		b.parts = append(b.parts, mem.SliceBuffer(p))
		b.size += len(p)
	}
}

func (b *batch) delta(r *xds.Resource, ttl time.Duration) {
	head, body := r.Delta(ttl)
	b.part(head)
	b.part(body)
}

func (b *batch) sotw(r *xds.Resource) {
	head, body := r.SotW()
	b.part(head)
	b.part(body)
	b.own = protowire.AppendTag(b.own, fieldVersionInfo, protowire.BytesType)
	b.own = protowire.AppendString(b.own, r.Version)
}

func (b *batch) remove(name string) {
	before := len(b.own)
	b.own = protowire.AppendTag(b.own, fieldRemoved, protowire.BytesType)
	b.own = protowire.AppendString(b.own, name)
	b.size += len(b.own) - before
	b.count++
}

// finish appends the type and the nonce, and returns the response.
func (b *batch) finish(nonce string) *response {
	own := make([]byte, 0, len(b.own)+len(b.sub.tail)+len(nonce)+2)
	own = append(append(own, b.own...), b.sub.tail...)
	own = protowire.AppendTag(own, fieldNonce, protowire.BytesType)
	own = protowire.AppendString(own, nonce)
	parts := append(b.parts, mem.SliceBuffer(own))
	return &response{parts: parts, size: parts.Len()}
}

// typeTail returns the encoded field type_url.
func typeTail(typeURL string) []byte {
	b := protowire.AppendTag(nil, fieldTypeURL, protowire.BytesType)
	return protowire.AppendString(b, typeURL)
}
