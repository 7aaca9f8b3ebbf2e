package swarm

import (
	"encoding/binary"
	"errors"

	"google.golang.org/protobuf/encoding/protowire"
)

// Field numbers of envoy.service.discovery.v3 and envoy.config.core.v3.Node.
const (
	requestNode      = 1
	requestTypeURL   = 2
	requestSubscribe = 3
	requestNonce     = 6

	nodeID      = 1
	nodeCluster = 2

	responseResources = 2
	responseNonce     = 5
	responseRemoved   = 6

	resourceName = 3
)

const (
	deltaSecrets = "/envoy.service.secret.v3.SecretDiscoveryService/DeltaSecrets"
	secretType   = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"

	messageHeader = 5 // of gRPC: a flag and the length
)

// request appends a DeltaDiscoveryRequest with the header of a gRPC message. Empty parts are left
// out.
func request(b []byte, node, nonce string, names ...string) []byte {
	start := len(b)
	b = append(b, 0, 0, 0, 0, 0)
	if node != "" {
		b = text(b, requestNode, string(text(text(nil, nodeID, node), nodeCluster, "bench")))
	}
	b = text(b, requestTypeURL, secretType)
	for _, name := range names {
		b = text(b, requestSubscribe, name)
	}
	if nonce != "" {
		b = text(b, requestNonce, nonce)
	}
	binary.BigEndian.PutUint32(b[start+1:], uint32(len(b)-start-messageHeader))
	return b
}

// text appends a field.
func text(b []byte, n protowire.Number, s string) []byte {
	return protowire.AppendString(protowire.AppendTag(b, n, protowire.BytesType), s)
}

// response is what a node reads of a DeltaDiscoveryResponse.
type response struct {
	nonce              string
	resources, removed int
	found              bool // the name looked for is among them
}

var errResponse = errors.New("swarm: a response that is no DeltaDiscoveryResponse")

// parse reads a response and looks for a name in it.
func parse(b []byte, look string) (r response, err error) {
	var inner error
	err = fields(b, func(n protowire.Number, v []byte) {
		switch n {
		case responseResources:
			r.resources++
			if e := fields(v, func(n protowire.Number, v []byte) {
				r.found = r.found || n == resourceName && string(v) == look
			}); e != nil {
				inner = e
			}
		case responseRemoved:
			r.removed++
			r.found = r.found || string(v) == look
		case responseNonce:
			r.nonce = string(v)
		}
	})
	if err == nil && (inner != nil || r.nonce == "") {
		err = errResponse
	}
	return r, err
}

// fields calls f with each length-delimited field.
func fields(b []byte, f func(n protowire.Number, v []byte)) error {
	for len(b) > 0 {
		n, kind, size := protowire.ConsumeTag(b)
		if size < 0 {
			return errResponse
		}
		b = b[size:]
		if kind == protowire.BytesType {
			v, size := protowire.ConsumeBytes(b)
			if size < 0 {
				return errResponse
			}
			f(n, v)
			b = b[size:]
			continue
		}
		if size = protowire.ConsumeFieldValue(n, kind, b); size < 0 {
			return errResponse
		}
		b = b[size:]
	}
	return nil
}
