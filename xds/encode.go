package xds

import (
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// These are field numbers of envoy.service.discovery.v3 and google.protobuf, as far as a resource
// is encoded by hand here.
const (
	responseResources = 2 // DiscoveryResponse, DeltaDiscoveryResponse

	resourceVersion = 1
	resourceBody    = 2
	resourceName    = 3
	resourceTTL     = 6

	anyTypeURL = 1
	anyValue   = 2

	durationSeconds = 1
	durationNanos   = 2
)

// Delta returns r as encoded in a DeltaDiscoveryResponse, with the field's tag, in two parts. head
// is kept from the second call on, unless there is a TTL (0 means none). body is not copied. Both
// are shared and must not be changed. Delta is safe for concurrent use.
func (r *Resource) Delta(ttl time.Duration) (head, body []byte) {
	encode := func() []byte { return field(responseResources, r.resource(ttl), len(r.Body.GetValue())) }
	if ttl > 0 { // another TTL a second later: nobody would use these bytes again
		return encode(), r.Body.GetValue()
	}
	return encodeShared(&r.delta, encode), r.Body.GetValue()
}

// SotW returns the same for a DiscoveryResponse, which has no TTL.
func (r *Resource) SotW() (head, body []byte) {
	return encodeShared(&r.sotw, func() []byte {
		size := len(r.Body.GetValue())
		return field(responseResources, anyHead(r.Body.GetTypeUrl(), nil, size), size)
	}), r.Body.GetValue()
}

// encodeShared returns what p holds, or encodes it. The first time it keeps nothing. Most
// certificates are sent once, to one stream; what several streams are sent is asked for again at
// once.
func encodeShared(p *atomic.Pointer[[]byte], encode func() []byte) []byte {
	have := p.Load()
	if have != nil && have != &encodedOnce {
		return *have
	}
	b := encode()
	switch have {
	case nil:
		p.CompareAndSwap(nil, &encodedOnce)
	default:
		p.Store(&b) // two streams may both get here: they store the same bytes
	}
	return b
}

var encodedOnce []byte // its address marks bytes that were encoded once and not kept

// resource returns the head of r as a Resource message: all but the value of the body, which comes
// last.
func (r *Resource) resource(ttl time.Duration) []byte {
	var b []byte
	b = protowire.AppendTag(b, resourceVersion, protowire.BytesType)
	b = protowire.AppendString(b, r.Version)
	b = protowire.AppendTag(b, resourceName, protowire.BytesType)
	b = protowire.AppendString(b, r.Name)
	if ttl > 0 {
		b = protowire.AppendTag(b, resourceTTL, protowire.BytesType)
		b = protowire.AppendBytes(b, duration(ttl))
	}
	size := len(r.Body.GetValue())
	return append(b, field(resourceBody, anyHead(r.Body.GetTypeUrl(), nil, size), size)...)
}

// anyHead returns the head of an Any whose value is inner followed by size more bytes.
func anyHead(typeURL string, inner []byte, size int) []byte {
	var b []byte
	b = protowire.AppendTag(b, anyTypeURL, protowire.BytesType)
	b = protowire.AppendString(b, typeURL)
	return append(b, field(anyValue, inner, size)...)
}

// field returns the head of a length-delimited field whose content is inner followed by size more
// bytes.
func field(n protowire.Number, inner []byte, size int) []byte {
	b := protowire.AppendTag(nil, n, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(len(inner)+size))
	return append(b, inner...)
}

func duration(d time.Duration) []byte {
	var b []byte
	b = protowire.AppendTag(b, durationSeconds, protowire.VarintType)
	b = protowire.AppendVarint(b, uint64(d/time.Second))
	b = protowire.AppendTag(b, durationNanos, protowire.VarintType)
	return protowire.AppendVarint(b, uint64(d%time.Second))
}
