package server

import (
	"errors"
	"fmt"
	"sync/atomic"
	"unicode/utf8"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	statusv3 "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/encoding/protowire"
)

// Requests are decoded by hand, field by field. Fields that nobody here reads are skipped: the
// extensions and the locality of a node, and its metadata except one field. So an ACK makes little
// garbage, and megabytes of metadata are not turned into maps.

var errWire = errors.New("not a discovery request: the protobuf is malformed")

// decodeDelta reads a DeltaDiscoveryRequest.
func decodeDelta(b []byte, r *discoveryv3.DeltaDiscoveryRequest) error {
	return fields(b, func(n protowire.Number, v []byte) (err error) {
		switch n {
		case 1:
			r.Node, err = decodeNode(v)
		case 2:
			r.TypeUrl, err = typeURL(v)
		case 3:
			err = appendName(&r.ResourceNamesSubscribe, v)
		case 4:
			err = appendName(&r.ResourceNamesUnsubscribe, v)
		case 5:
			if r.InitialResourceVersions == nil {
				r.InitialResourceVersions = make(map[string]string)
			}
			err = decodeVersion(v, r.InitialResourceVersions)
		case 6:
			r.ResponseNonce, err = text(v)
		case 7:
			r.ErrorDetail, err = decodeStatus(v)
		}
		return err
	})
}

// decodeSotW reads a DiscoveryRequest.
func decodeSotW(b []byte, r *discoveryv3.DiscoveryRequest) error {
	return fields(b, func(n protowire.Number, v []byte) (err error) {
		switch n {
		case 1:
			r.VersionInfo, err = text(v)
		case 2:
			r.Node, err = decodeNode(v)
		case 3:
			err = appendName(&r.ResourceNames, v)
		case 4:
			r.TypeUrl, err = typeURL(v)
		case 5:
			r.ResponseNonce, err = text(v)
		case 6:
			r.ErrorDetail, err = decodeStatus(v)
		}
		return err
	})
}

func decodeNode(b []byte) (*corev3.Node, error) {
	node := &corev3.Node{}
	return node, fields(b, func(n protowire.Number, v []byte) (err error) {
		switch n {
		case 1:
			node.Id, err = text(v)
		case 2:
			node.Cluster, err = text(v)
		case 3:
			node.Metadata, err = decodeMetadata(v)
		case 6:
			node.UserAgentName, err = text(v)
		case 7:
			var words string
			words, err = text(v)
			node.UserAgentVersionType = &corev3.Node_UserAgentVersion{UserAgentVersion: words}
		case 8:
			node.UserAgentVersionType, err = decodeBuild(v)
		}
		return err
	})
}

// decodeBuild reads the semantic version of a BuildVersion.
func decodeBuild(b []byte) (*corev3.Node_UserAgentBuildVersion, error) {
	version := &typev3.SemanticVersion{}
	err := fields(b, func(n protowire.Number, v []byte) error {
		if n != 1 {
			return nil
		}
		return numbers(v, func(n protowire.Number, v uint64) {
			switch n {
			case 1:
				version.MajorNumber = uint32(v)
			case 2:
				version.MinorNumber = uint32(v)
			case 3:
				version.Patch = uint32(v)
			}
		})
	})
	return &corev3.Node_UserAgentBuildVersion{UserAgentBuildVersion: &corev3.BuildVersion{Version: version}}, err
}

// numbers calls f with each varint field of a message, and skips the others.
func numbers(b []byte, f func(protowire.Number, uint64)) error {
	for len(b) > 0 {
		n, kind, size := protowire.ConsumeTag(b)
		if size < 0 {
			return errWire
		}
		b = b[size:]
		if size = protowire.ConsumeFieldValue(n, kind, b); size < 0 {
			return errWire
		}
		if kind == protowire.VarintType {
			v, _ := protowire.ConsumeVarint(b)
			f(n, v)
		}
		b = b[size:]
	}
	return nil
}

func decodeStatus(b []byte) (*statusv3.Status, error) {
	s := &statusv3.Status{}
	return s, fields(b, func(n protowire.Number, v []byte) error {
		if n == 2 {
			s.Message = string(v) // only the message is kept: see printable
		}
		return nil
	})
}

func decodeVersion(b []byte, into map[string]string) error {
	var key, value string
	err := fields(b, func(n protowire.Number, v []byte) (err error) {
		switch n {
		case 1:
			key, err = text(v)
		case 2:
			value, err = text(v)
		}
		return err
	})
	into[key] = value
	return err
}

// fields calls f with each length-delimited field of a message, and skips the others. Every field
// that this package reads from requests is length-delimited.
func fields(b []byte, f func(protowire.Number, []byte) error) error {
	for len(b) > 0 {
		n, kind, size := protowire.ConsumeTag(b)
		if size < 0 {
			return errWire
		}
		b = b[size:]
		if kind != protowire.BytesType {
			if size = protowire.ConsumeFieldValue(n, kind, b); size < 0 {
				return errWire
			}
			b = b[size:]
			continue
		}
		v, size := protowire.ConsumeBytes(b)
		if size < 0 {
			return errWire
		}
		if err := f(n, v); err != nil {
			return err
		}
		b = b[size:]
	}
	return nil
}

// lastType is the type URL of the last request. Nearly all requests that follow have the same, and
// need no allocation for it.
var lastType atomic.Pointer[string]

func typeURL(b []byte) (string, error) {
	if last := lastType.Load(); last != nil && *last == string(b) {
		return *last, nil
	}
	s, err := text(b)
	if err == nil && len(s) < 256 {
		lastType.Store(&s)
	}
	return s, err
}

func text(b []byte) (string, error) {
	if !utf8.Valid(b) {
		return "", fmt.Errorf("%w: a string is not UTF-8", errWire)
	}
	return string(b), nil
}

// appendName appends a resource name. Its bytes need not be UTF-8, since Envoy forwards what a
// client sent as SNI. An error here would end a stream that serves all clients of the node.
func appendName(to *[]string, b []byte) error {
	*to = append(*to, string(b))
	return nil
}
