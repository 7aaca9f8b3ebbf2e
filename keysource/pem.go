package keysource

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
)

var begin = []byte("-----BEGIN")

// blocks returns every PEM block of b, and notes of what was put in order for that. [pem.Decode]
// silently skips a block that is garbled or cut short, and so a link of the chain would be lost.
// Here such a file is refused, even if it ends within a first line.
func blocks(b []byte) ([]*pem.Block, []string, error) {
	b, notes := plainText(b)
	begun := bytes.Count(b, begin)
	var out []*pem.Block
	for rest := b; ; {
		block, after := pem.Decode(rest)
		if block == nil {
			rest = rest[bytes.LastIndexByte(rest, '\n')+1:]
			if begun == len(out) && (len(rest) == 0 || !bytes.HasPrefix(begin, rest)) {
				return out, notes, nil
			}
			break
		}
		out, rest = append(out, block), after
	}
	if bytes.Contains(b, []byte(`-----\n`)) {
		return nil, nil, errors.New(`its line breaks are written as \n: write real ones (printf '%b')`)
	}
	return nil, nil, fmt.Errorf("the PEM is broken or cut short after block %d: write it to another file and "+
		"rename it into place", len(out))
}

// parseChain returns the certificates of b, in the order of b, and notes of what was put in order
// or left out. Private keys are not noted: one file may hold both.
func parseChain(b []byte) ([]*x509.Certificate, []string, error) {
	all, notes, err := blocks(b)
	if err != nil {
		return nil, nil, err
	}
	var certs []*x509.Certificate
	var labels []string
	for i, block := range all {
		kind := kindOf(block.Type)
		if kind != certificate {
			labels = append(labels, block.Type)
		}
		der, note := block.Bytes, ""
		switch kind {
		case certificate:
		case privateKey:
			continue
		case otherCertificate:
			der, note = relabelled(block)
		default:
			if !isCertificate(block.Bytes) {
				note, err := leftOut(i, block)
				if err != nil {
					return nil, nil, err
				}
				notes = append(notes, note)
				continue
			}
			note = fmt.Sprintf("the unknown label %.100q stands at a certificate, which is taken", block.Type)
		}
		c, err := x509.ParseCertificate(der)
		switch {
		case err != nil && isPKCS7(der):
			return nil, nil, fmt.Errorf("block %d is PKCS#7 under the label %s: label it PKCS7, and take the "+
				"certificates out of it (openssl pkcs7 -in FILE -print_certs)", i, block.Type)
		case err != nil:
			return nil, nil, fmt.Errorf("certificate %d: %v", len(certs), err)
		}
		if certs = append(certs, c); note != "" && !slices.Contains(notes, note) {
			notes = append(notes, note)
		}
	}
	if len(certs) == 0 {
		return nil, nil, fmt.Errorf("no CERTIFICATE block in the PEM%s", instead(b, labels))
	}
	return certs, notes, nil
}

// privateKeyOf is a private key, and its DER if that is PKCS#8.
type privateKeyOf struct {
	crypto.Signer
	pkcs8 []byte
}

// parseKey returns the private key of b that belongs to one of certs, or else the first one.
func parseKey(b []byte, certs []*x509.Certificate) (privateKeyOf, []string, error) {
	all, notes, err := blocks(b)
	if err != nil {
		return privateKeyOf{}, nil, err
	}
	var keys []privateKeyOf
	var labels []string
	for i, block := range all {
		labels = append(labels, block.Type)
		switch kindOf(block.Type) {
		case privateKey:
		case certificate, otherCertificate, harmless:
			continue
		default:
			note, err := leftOut(i, block)
			if err != nil {
				return privateKeyOf{}, nil, err
			}
			notes = append(notes, note)
			continue
		}
		key, err := decodeKey(block)
		if err != nil {
			return privateKeyOf{}, nil, err
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return privateKeyOf{}, nil, fmt.Errorf("no PRIVATE KEY block in the PEM%s", instead(b, labels))
	}
	i := slices.IndexFunc(keys, func(k privateKeyOf) bool {
		return slices.ContainsFunc(certs, func(c *x509.Certificate) bool { return signs(k, c) })
	})
	if len(keys) > 1 {
		notes = append(notes, fmt.Sprintf("there are %d private keys: the one of the certificate is used", len(keys)))
	}
	return keys[max(i, 0)], notes, nil
}

// decodeKey parses a block that is labelled as a private key. Some programs write another form than
// the label says.
func decodeKey(block *pem.Block) (privateKeyOf, error) {
	// Proc-Type is of RFC 1421, the older way of openssl.
	if block.Type == "ENCRYPTED PRIVATE KEY" || strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED") {
		return privateKeyOf{}, errEncrypted
	}
	var out privateKeyOf
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err == nil {
		out.pkcs8 = block.Bytes
	} else if rsa, err1 := x509.ParsePKCS1PrivateKey(block.Bytes); err1 == nil {
		key, err = rsa, nil
	} else if ec, err1 := x509.ParseECPrivateKey(block.Bytes); err1 == nil {
		key, err = ec, nil
	}
	if err != nil {
		// The parser's error may quote the key.
		return privateKeyOf{}, fmt.Errorf("cannot be parsed as %s", block.Type)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return privateKeyOf{}, fmt.Errorf("a %T cannot sign", key)
	}
	out.Signer = signer
	return out, nil
}

var errEncrypted = errors.New("it is encrypted: decrypt it first (openssl pkey)")

// signs reports whether key is the private key of c.
func signs(key crypto.Signer, c *x509.Certificate) bool {
	public, ok := c.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	return ok && public.Equal(key.Public())
}
