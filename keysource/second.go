package keysource

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"
)

// secondSuffix makes the name of a host's second certificate. No server name can have it.
const secondSuffix = ":rsa"

// CertName returns the name of a certificate that a user writes. It is a server name, as
// [ServerName] takes it, or that of a [Name.Second], such as shop.example:rsa. The error wraps
// [ErrBadName].
func CertName(s string) (Name, error) {
	host, second := strings.CutSuffix(s, secondSuffix)
	n, err := ServerName(host)
	if err != nil || !second {
		return n, err
	}
	return n + secondSuffix, nil
}

// Second returns the name of the RSA certificate that stands beside the ECDSA certificate of n.
// Nodes whose chains name certificates ask for both, and the client's abilities decide. Everywhere
// else it is a name of its own: it is listed, put, renewed, tried and removed by itself.
func (n Name) Second() Name { return n.Host() + secondSuffix }

// IsSecond reports whether n is the name of a second certificate.
func (n Name) IsSecond() bool { return strings.HasSuffix(string(n), secondSuffix) }

// Host returns the server name whose clients get the certificate of n. It is n itself, unless n is
// the name of a second certificate.
func (n Name) Host() Name { return Name(strings.TrimSuffix(string(n), secondSuffix)) }

// Kind returns the kind of the certificate's key: RSA, ECDSA or Ed25519. It is zero if there is no
// chain.
func (c Certificate) Kind() x509.PublicKeyAlgorithm {
	block, _ := pem.Decode(c.Chain)
	if block == nil {
		return x509.UnknownPublicKeyAlgorithm
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return x509.UnknownPublicKeyAlgorithm
	}
	return leaf.PublicKeyAlgorithm
}

// LeafKind returns the kind of the key of the leaf in a chain that was not checked yet, in any form
// that [ParseCertificate] reads. It is zero if none can be read.
func LeafKind(chain []byte) x509.PublicKeyAlgorithm {
	if len(chain) > maxPEM {
		return x509.UnknownPublicKeyAlgorithm
	}
	certs, _, err := parseChain(chain)
	if err != nil {
		return x509.UnknownPublicKeyAlgorithm
	}
	return certs[leafWithoutKey(certs)].PublicKeyAlgorithm
}

// checkKind refuses a second certificate whose key is not RSA.
func checkKind(n Name, kind x509.PublicKeyAlgorithm) error {
	if !n.IsSecond() || kind == x509.RSA {
		return nil
	}
	return fmt.Errorf("%w: its key is %s, and %s is the RSA certificate of %s: put it under %s", ErrBadCertificate,
		kind, n, n.Host(), n.Host())
}

// CheckFirst says why c cannot stand under n, the name of a host, while the host has a second
// certificate. The error wraps [ErrBadCertificate].
func (c Certificate) CheckFirst(n Name) error {
	if kind := c.Kind(); kind != x509.ECDSA {
		return fmt.Errorf("%w: the key of %s is %s, and beside the RSA certificate %s there must be an ECDSA one",
			ErrBadCertificate, n, kind, n.Second())
	}
	return nil
}
