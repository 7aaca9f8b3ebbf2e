package xds

import (
	"strings"
	"weak"
)

// An ACK of Envoy says something only if the bytes differ from those that it stored last. Envoy
// stores an update before it rebuilds the TLS contexts that use it, and keeps what it refused. It
// answers the same bytes with an ACK, without looking at them. So a server must know what was
// delivered last, and must be able to send the same content in other bytes.
//
// A version on the wire therefore has two parts: the version of the content, and a mark. The mark
// says which encoding of the content was sent, and whether its ACK counts:
//
//	g7-0123456789ab.1     encoding 1; other bytes were delivered before it
//	g7-0123456789ab.2?    encoding 2; it is not known what was delivered before it
//
// A node that reconnects says which version it acknowledged last. That is believed if the mark
// says that the ACK counted.
//
// Source: Envoy's source/common/secret/sds_api.cc (onConfigUpdate); envoyproxy/envoy#42438.

// Encodings is how many encodings of one content there are: the plain one, with number 0, and its
// variants.
const Encodings = 3

// Mark returns the version on the wire of content in encoding n, which is below [Encodings].
func Mark(content string, n int, counts bool) string {
	mark := content + "." + string(rune('0'+n))
	if !counts {
		mark += "?"
	}
	return mark
}

// Content returns the version of the content to which a version on the wire belongs. believed is
// true if the version has a mark which says that its ACK counted. A version without a mark is
// returned unchanged.
func Content(version string) (content string, believed bool) {
	rest, doubted := strings.CutSuffix(version, "?")
	n := len(rest) - 2
	if n < 1 || rest[n] != '.' || rest[n+1] < '0' || rest[n+1] >= '0'+Encodings {
		return version, false
	}
	return rest[:n], !doubted
}

// Remedy is what helps a node that refused a version; see [Varying].
type Remedy uint8

const (
	// Retry means that only the refused content can be offered, again later in other bytes.
	Retry Remedy = iota
	// Replace means the resource that is returned with it.
	Replace
	// Remove means that the node is told that the name is absent.
	Remove
	// Hopeless means that nothing is left to try. The node must be restarted.
	Hopeless
)

// Varying is a [Resources] for nodes that keep what they refuse. Its methods do not block.
type Varying interface {
	Resources
	// Varies reports whether node keeps what it refuses. The versions that Lookup returns for such
	// a node have a mark (see [Mark]). For every other node each ACK counts, and the node is sent
	// no variants.
	Varies(node Node) bool
	// Variant returns r in encoding n, from 1 on, under a version with that mark. The bytes of all
	// encodings differ, and mean the same. r is what Lookup or Cure returned. It is not changed.
	Variant(r *Resource, n int, counts bool) *Resource
	// Cure returns what makes node forget the bytes of a version of name that it refused. accepted
	// is the content that it accepted last, or empty. try counts the remedies that did not help,
	// from 0. The resource is nil unless the remedy is Replace.
	Cure(node Node, name, refused, accepted string, try int) (*Resource, Remedy)
}

// Encoded returns v.Variant(r, n, counts). It is made once for all who ask for it while any of
// them uses it. A fleet that connects is sent the same encodings a thousand times, and needs none
// of them afterwards. n is 1 or 2, and counts is the same for each n.
func Encoded(v Varying, r *Resource, n int, counts bool) *Resource {
	kept := &r.variants[n-1]
	if p := kept.Load(); p != nil {
		if have := p.Value(); have != nil {
			return have
		}
	}
	made := v.Variant(r, n, counts)
	p := weak.Make(made)
	kept.Store(&p)
	return made
}
