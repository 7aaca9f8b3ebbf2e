package xds

import (
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// Field numbers of envoy.service.discovery.v3 and google.protobuf, as far as a resource is written by hand here.
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

// Delta returns the bytes that r is in a DeltaDiscoveryResponse, field tag included, in two parts: head, which is kept from the second time on unless there is
// a TTL (0: none), and the bytes of the body, which are not copied. Both are shared: do not change them. Safe for concurrent use.
func (r *Resource) Delta(ttl time.Duration) (head, body []byte) {
	encode := func() []byte { return field(responseResources, r.resource(ttl), len(r.Body.GetValue())) }
	if ttl > 0 { // another one a second later: some hundred bytes that nobody would use again
		return encode(), r.Body.GetValue()
	}
	return once(&r.delta, encode), r.Body.GetValue()
}

// SotW returns the same, without a TTL, for a DiscoveryResponse.
func (r *Resource) SotW() (head, body []byte) {
	return once(&r.sotw, func() []byte {
		size := len(r.Body.GetValue())
		return field(responseResources, anyHead(r.Body.GetTypeUrl(), nil, size), size)
	}), r.Body.GetValue()
}

// once encodes what p is to hold. The first time it keeps nothing: most certificates are sent to one stream, once, and what several streams are sent is
// asked for again at once.
func once(p *atomic.Pointer[[]byte], encode func() []byte) []byte {
	have := p.Load()
	if have != nil && have != &asked {
		return *have
	}
	b := encode()
	switch have {
	case nil:
		p.CompareAndSwap(nil, &asked)
	default:
		p.Store(&b) // two streams may both get here: they store the same bytes
	}
	return b
}

var asked []byte // its address says that the bytes were asked for once

// resource is the head of r as a Resource message: everything but the body's value, which comes last.
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

// anyHead is the head of an Any whose value is inner followed by size more bytes.
func anyHead(typeURL string, inner []byte, size int) []byte {
	var b []byte
	b = protowire.AppendTag(b, anyTypeURL, protowire.BytesType)
	b = protowire.AppendString(b, typeURL)
	return append(b, field(anyValue, inner, size)...)
}

// field is the head of a length-delimited field whose content is inner followed by size more bytes.
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
