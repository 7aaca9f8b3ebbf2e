package catalog

import (
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
)

// format is the version of the stored form. No other one is read: an older replica must not serve
// what it does not understand.
const format = 2

// encode returns the stored form. In it every text and byte string follows its length (a uvarint),
// and every list follows the number of its elements:
//
//	format (one byte), name, version, names of the leaf, issuer,
//	not before, not after (seconds since 1970, varints), key, chain (both DER)
//
// The name is part of it, so that a value under a wrong key is noticed. A certificate is parsed
// and checked once, when it is put. The result is part of the record, with the hash of what was
// checked. Otherwise ten thousand signatures would be checked for a node that asks for ten
// thousand names. DER takes half the space of PEM in JSON, which counts when a store has a million
// records.
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
	names := c.Names
	if n.IsSecond() { // earlier versions call a record broken that does not have its own name
		names = append(slices.Clone(names), string(n))
	}
	b = binary.AppendUvarint(b, uint64(len(names)))
	for _, d := range names {
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

// admit checks a certificate that is to be stored under n. It returns the certificate parsed, and
// what is to be stored.
func admit(n keysource.Name, p keysource.PEM, now time.Time) (keysource.Certificate, admitted, error) {
	if want, err := keysource.CertName(string(n)); err != nil {
		return keysource.Certificate{}, admitted{}, err
	} else if want != n {
		return keysource.Certificate{}, admitted{}, fmt.Errorf("%w: %q is written %q", keysource.ErrBadName, n, want)
	}
	c, der, err := keysource.ParseDER(p, now)
	if err != nil {
		return keysource.Certificate{}, admitted{}, fmt.Errorf("%s: %w", n, err)
	}
	if err := c.CheckName(n); err != nil {
		return keysource.Certificate{}, admitted{}, fmt.Errorf("%s: %w", n, err)
	}
	version := c.Version()
	return c, admitted{version, encode(n, c, der, version)}, nil
}

// admitted is a certificate in its stored form. The zero value means that there is nothing to
// store.
type admitted struct {
	version string
	val     []byte
}

// Check checks a record that comes from outside, such as a backup, and returns it as it is to be
// stored. The record must be readable by decode, and its key must belong to its chain. Check
// ignores expiry. The error wraps [keysource.ErrBadCertificate] or [keysource.ErrBadName].
//
// If only a rule of [keysource.Rules] refuses a certificate, it is returned as it is. It must not
// stop a restore, and is not served while the rule exists.
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

// decode reads a stored value. It does not check expiry. A certificate was good when it was put.
// To stop serving it when it expires would leave no certificate. A restart would become an outage
// for clients that accept it. So the last good one stays. List shows expiry, and alarms report it.
// The errors of decode quote nothing of the value, which has a key.
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

// unpack does what decode does, without the rules that a certificate must obey to be sent.
func unpack(n keysource.Name, val []byte) (keysource.Certificate, keysource.DER, error) {
	bad := func(what string) (keysource.Certificate, keysource.DER, error) {
		return keysource.Certificate{}, keysource.DER{},
			fmt.Errorf("%w: the stored record of %s %s: put the certificate again", keysource.ErrBadCertificate, n,
				what)
	}
	r := fields{rest: val}
	if got := r.byte(); got != format && !r.broken {
		return bad(fmt.Sprintf("has format %d, this version reads %d", got, format))
	}
	name, version := r.text(), r.text()
	var c keysource.Certificate
	for range r.count() {
		if d := string(r.text()); !n.IsSecond() || d != string(n) {
			c.Names = append(c.Names, d)
		}
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
