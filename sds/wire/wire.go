// Package wire decodes secrets as they come over xDS, for those who receive them.
//
// Its rules:
//
//   - It shares no code with the server that sends secrets, so a client does not link that.
//   - An error names the resource, and quotes nothing of it.
//   - A ring is checked, and its version must be that of its keys. A certificate is not checked.
//
// Source:
// https://www.envoyproxy.io/docs/envoy/latest/api-v3/extensions/transport_sockets/tls/v3/secret.proto
package wire

import (
	"fmt"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/xds"
)

// TypeURL is the resource type of secrets.
const TypeURL = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"

// Certificate returns the chain and the private key of r, unchecked. The error names the resource,
// and quotes nothing of it.
func Certificate(r *xds.Resource) (keysource.PEM, error) {
	s, err := secret(r)
	if err != nil {
		return keysource.PEM{}, err
	}
	c := s.GetTlsCertificate()
	if c == nil {
		return keysource.PEM{}, fmt.Errorf("%q is a %T, not a certificate", r.Name, s.GetType())
	}
	return keysource.PEM{
		Chain: c.GetCertificateChain().GetInlineBytes(), Key: c.GetPrivateKey().GetInlineBytes(),
	}, nil
}

// Ring returns r, checked by [keysource.Ring.Check]. r must have the name of a ring. Its
// generation is that of the version. The error names the resource, and quotes no key.
func Ring(r *xds.Resource) (keysource.Ring, error) {
	s, err := secret(r)
	if err != nil {
		return keysource.Ring{}, err
	}
	keys := s.GetSessionTicketKeys()
	if keys == nil {
		return keysource.Ring{}, fmt.Errorf("%q is a %T, not session ticket keys", r.Name, s.GetType())
	}
	generation, ok := keysource.ParseRingVersion(r.Version)
	if !ok {
		return keysource.Ring{}, fmt.Errorf("%q: %q is no version of a ring", r.Name, r.Version)
	}
	ring := keysource.Ring{Generation: generation}
	for i, k := range keys.GetKeys() {
		b := k.GetInlineBytes()
		if len(b) != keysource.TicketKeySize {
			return keysource.Ring{}, fmt.Errorf("%q: %w: key %d has %d bytes, must be %d", r.Name,
				keysource.ErrBadTicketKey, i, len(b), keysource.TicketKeySize)
		}
		ring.Keys = append(ring.Keys, keysource.TicketKey(b))
	}
	if err := ring.Check(); err != nil {
		return keysource.Ring{}, fmt.Errorf("%q: %w", r.Name, err)
	}
	if ring.Version() != r.Version {
		return keysource.Ring{}, fmt.Errorf("%q: the keys are not those of version %s", r.Name, r.Version)
	}
	return ring, nil
}

func secret(r *xds.Resource) (*tlsv3.Secret, error) {
	s := new(tlsv3.Secret)
	if r.Body.GetTypeUrl() != TypeURL {
		return nil, fmt.Errorf("%q is a %q, not a secret", r.Name, r.Body.GetTypeUrl())
	}
	if err := r.Body.UnmarshalTo(s); err != nil {
		return nil, fmt.Errorf("%q cannot be decoded", r.Name) // the parser's error may quote it
	}
	return s, nil
}
