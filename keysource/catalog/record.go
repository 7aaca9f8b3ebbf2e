package catalog

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
)

// format is the version of the stored form. Another one is not read: an older replica must not serve what it does not understand.
const format = 2

// encode returns the stored form, in which every text and list of bytes stands behind its length (a uvarint), every list behind how many it has:
//
//	format (one byte), name, version, names of the leaf, issuer, not before, not after (seconds since 1970, varints), key, chain (both DER)
//
// The name is in it so that a value which got under another key is noticed. A certificate is parsed and checked once, when it is put; what that found
// stands in the record, with the hash of what it was found in, since a node that asks for ten thousand names would else have ten thousand signatures
// checked. A million records are a store's file: DER takes half of what PEM within JSON takes.
func encode(n keysource.Name, c keysource.Certificate, der keysource.DER, version string) []byte {
	size := 128 + len(n) + len(version) + len(c.Issuer) + len(der.Key)
	for _, d := range c.Names {
		size += 2 + len(d)
	}
	for _, d := range der.Chain {
		size += 4 + len(d)
	}
	b := append(make([]byte, 0, size), format)
	b = appendText(appendText(b, string(n)), version)
	b = binary.AppendUvarint(b, uint64(len(c.Names)))
	for _, d := range c.Names {
		b = appendText(b, d)
	}
	b = appendText(b, c.Issuer)
	b = binary.AppendVarint(binary.AppendVarint(b, c.NotBefore.Unix()), c.NotAfter.Unix())
	b = appendText(b, der.Key)
	b = binary.AppendUvarint(b, uint64(len(der.Chain)))
	for _, d := range der.Chain {
		b = appendText(b, d)
	}
	return b
}

func appendText[T string | []byte](b []byte, text T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(text))), text...)
}

// admit checks what wants to come in and returns it parsed, and what is to be stored.
func admit(n keysource.Name, p keysource.PEM, now time.Time) (keysource.Certificate, admitted, error) {
	if want, err := keysource.ServerName(string(n)); err != nil {
		return keysource.Certificate{}, admitted{}, err
	} else if want != n {
		return keysource.Certificate{}, admitted{}, fmt.Errorf("%w: %q is written %q", keysource.ErrBadName, n, want)
	}
	c, der, err := keysource.ParseDER(p, now)
	if err != nil {
		return keysource.Certificate{}, admitted{}, fmt.Errorf("%s: %w", n, err)
	}
	if !c.Covers(n) {
		return keysource.Certificate{}, admitted{}, fmt.Errorf("%s: %w: it is for %.200q, so that clients would refuse it there", n, keysource.ErrBadCertificate, c.Names)
	}
	version := c.Version()
	return c, admitted{version, encode(n, c, der, version)}, nil
}

// admitted is a certificate in its stored form; the zero value: there is nothing to store.
type admitted struct {
	version string
	val     []byte
}

// Check looks at a record that comes from outside, such as a backup, and returns it as it is to be stored: it must be one that decode reads, with a key that
// belongs to its chain. Expiry is not looked at. The error wraps [keysource.ErrBadCertificate] or [keysource.ErrBadName].
//
// A certificate that only a rule of [keysource.Rules] refuses is returned as it is: it must not stop a restore,
// and is not served as long as the rule stands.
func Check(n keysource.Name, val []byte) ([]byte, error) {
	c, der, err := unpack(n, val)
	if err != nil {
		return nil, err
	}
	if der.Check() != nil {
		return val, nil
	}
	_, next, err := admit(n, c.PEM, time.Time{})
	return next.val, err
}

// decode reads a stored value. Its expiry is not checked: a certificate was good when it was put, and to
// stop serving it at its end would turn an expired certificate into none, and a restart into an outage for those who went on with it
// (the last good one stays). Expiry is shown by List and alarmed on instead. Its errors quote nothing of the value, which holds a key.
func decode(n keysource.Name, val []byte) (keysource.Certificate, error) {
	c, der, err := unpack(n, val)
	if err != nil {
		return keysource.Certificate{}, err
	}
	if err := der.Check(); err != nil {
		return keysource.Certificate{}, fmt.Errorf("the stored certificate of %s: %w", n, err)
	}
	return c, nil
}

// unpack is decode without the rules that the certificate must obey to be sent.
func unpack(n keysource.Name, val []byte) (keysource.Certificate, keysource.DER, error) {
	bad := func(what string) (keysource.Certificate, keysource.DER, error) {
		return keysource.Certificate{}, keysource.DER{}, fmt.Errorf("%w: the stored record of %s %s: put the certificate again", keysource.ErrBadCertificate, n, what)
	}
	r := fields{rest: val}
	if got := r.byte(); got != format && !r.broken {
		return bad(fmt.Sprintf("has format %d, this version reads %d", got, format))
	}
	name, version := r.text(), r.text()
	var c keysource.Certificate
	for range r.count() {
		c.Names = append(c.Names, string(r.text()))
	}
	c.Issuer = string(r.text())
	c.NotBefore, c.NotAfter = r.time(), r.time()
	der := keysource.DER{Key: r.text()}
	for range r.count() {
		der.Chain = append(der.Chain, r.text())
	}
	if r.broken {
		return bad("cannot be decoded")
	}
	if len(r.rest) > 0 {
		return bad("is followed by something else")
	}
	if string(name) != string(n) {
		return bad("is of another name")
	}
	c.PEM = der.PEM()
	if c.Version() != string(version) {
		return bad("was changed since it was put")
	}
	if !c.Covers(n) {
		return bad("holds a certificate for other names")
	}
	return c, der, nil
}
