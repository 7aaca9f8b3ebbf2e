package sds

import (
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"

	"github.com/lockstep-tls/lockstep/keysource"
)

// Held is a certificate that is being sent.
type Held struct {
	// Name is under which it was found: the name that was asked for, or the wildcard that covers it.
	Name keysource.Name
	// From is where it was found, as an index of [Config].Sources.
	From int
	keysource.PEM
}

// Held lists the certificates that are being sent now, each once. They hold private keys.
func (t *Table) Held() (all []Held) {
	type place struct {
		name keysource.Name
		from int
	}
	t.mu.Lock()
	sent := make(map[place]*entry, len(t.certs))
	bodies := make(map[place][]byte, len(t.certs))
	for _, e := range t.certs {
		if e.res == nil {
			continue
		}
		at := place{e.name, e.from}
		if e.wild {
			at.name = e.name.Wildcard()
		}
		if have := sent[at]; have == nil || have.notAfter < e.notAfter { // one of two spellings may not have been loaded anew yet
			sent[at], bodies[at] = e, e.res.Body.Value
		}
	}
	t.mu.Unlock()
	for at, b := range bodies {
		var s tlsv3.Secret
		if err := proto.Unmarshal(b, &s); err != nil {
			continue // we encoded it
		}
		c := s.GetTlsCertificate()
		all = append(all, Held{at.name, at.from, keysource.PEM{
			Chain: c.GetCertificateChain().GetInlineBytes(), Key: c.GetPrivateKey().GetInlineBytes(),
		}})
	}
	return all
}
