package sds

import (
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"

	"github.com/lockstep-tls/lockstep/keysource"
)

// Held is a certificate that is being sent, under the name that decides it.
type Held struct {
	Name       keysource.Name
	Chain, Key []byte // PEM
}

// Held lists the certificates that are being sent now. They hold private keys.
func (t *Table) Held() (all []Held) {
	t.mu.Lock()
	sent := make(map[keysource.Name][]byte, len(t.certs))
	for _, e := range t.certs {
		if e.res != nil {
			sent[e.name] = e.res.Body.Value
		}
	}
	t.mu.Unlock()
	for name, b := range sent {
		var s tlsv3.Secret
		if err := proto.Unmarshal(b, &s); err != nil {
			continue // we encoded it
		}
		c := s.GetTlsCertificate()
		all = append(all, Held{name, c.GetCertificateChain().GetInlineBytes(), c.GetPrivateKey().GetInlineBytes()})
	}
	return all
}
