package keysource

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

var begin = []byte("-----BEGIN")

// blocks returns every PEM block of b. [pem.Decode] silently skips a block that is garbled or cut
// short, and so a link of the chain would be lost. Here such a file is refused, even if it ends
// within a first line.
func blocks(b []byte) ([]*pem.Block, error) {
	begun := bytes.Count(b, begin)
	var out []*pem.Block
	for {
		block, rest := pem.Decode(b)
		if block == nil {
			break
		}
		out, b = append(out, block), rest
	}
	last := b[bytes.LastIndexByte(b, '\n')+1:]
	if begun != len(out) || len(last) > 0 && bytes.HasPrefix(begin, last) {
		return nil, fmt.Errorf("the PEM is broken or cut short after block %d: write it to another file and "+
			"rename it into place", len(out))
	}
	return out, nil
}

// parseChain returns the certificates of b, in order.
func parseChain(b []byte) ([]*x509.Certificate, error) {
	all, err := blocks(b)
	if err != nil {
		return nil, err
	}
	var certs []*x509.Certificate
	for _, block := range all {
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %v", len(certs), err)
		}
		certs = append(certs, c)
	}
	if len(certs) == 0 {
		return nil, errors.New("no CERTIFICATE block in the PEM")
	}
	return certs, nil
}

// parseKey returns the first private key of b, and its DER if that is PKCS#8.
func parseKey(b []byte) (_ crypto.Signer, pkcs8 []byte, _ error) {
	all, err := blocks(b)
	if err != nil {
		return nil, nil, err
	}
	for _, block := range all {
		var key any
		var err error
		switch block.Type {
		case "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
			pkcs8 = block.Bytes
		case "RSA PRIVATE KEY":
			key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		case "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(block.Bytes)
		case "ENCRYPTED PRIVATE KEY":
			return nil, nil, errEncrypted
		default: // openssl writes EC PARAMETERS before the key
			continue
		}
		if strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED") {
			// RFC 1421, the older way of openssl
			return nil, nil, errEncrypted
		}
		if err != nil {
			// The parser's error may quote the key.
			return nil, nil, fmt.Errorf("cannot be parsed as %s", block.Type)
		}
		signer, ok := key.(crypto.Signer)
		if !ok {
			return nil, nil, fmt.Errorf("a %T cannot sign", key)
		}
		return signer, pkcs8, nil
	}
	return nil, nil, errors.New("no PRIVATE KEY block in the PEM")
}

var errEncrypted = errors.New("it is encrypted: decrypt it first (openssl pkey)")

// signs reports whether key is the private key of c.
func signs(key crypto.Signer, c *x509.Certificate) bool {
	public, ok := c.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	return ok && public.Equal(key.Public())
}
