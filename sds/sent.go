package sds

import "github.com/lockstep-tls/lockstep/keysource"

// SentCertificate is a certificate that is being sent.
type SentCertificate struct {
	// Name is the name under which the certificate was found: the name that was asked for, or the
	// wildcard that covers it.
	Name keysource.Name
	From int // the index in [Config].Sources of where it was found
	keysource.PEM
}

// Sent lists the certificates that are being sent now, each once. They contain private keys.
func (t *Table) Sent() (all []SentCertificate) {
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
		// One of two spellings may not have been loaded again yet.
		if have := sent[at]; have == nil || have.notAfter < e.notAfter {
			sent[at], bodies[at] = e, e.res.Body.Value
		}
	}
	t.mu.Unlock()
	for at, b := range bodies {
		if p, ok := certificateOf(b); ok {
			all = append(all, SentCertificate{at.name, at.from, p})
		}
	}
	return all
}
