package catalog

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
)

// format is the version of record. Another one is not read: an older replica must not serve what it does not understand.
const format = 1

// record is the stored form. The name is in it so that a value which got under another key is noticed.
//
// A certificate is parsed and checked once, when it is put; what that found stands in the record, with the hash of what it was found in, since a node
// that asks for ten thousand names would else have ten thousand signatures checked.
type record struct {
	Format    int       `json:"format"`
	Name      string    `json:"name"`
	Chain     string    `json:"chain"`   // PEM, as keysource.Certificate
	Key       string    `json:"key"`     // PEM
	Version   string    `json:"version"` // keysource.Certificate.Version
	Names     []string  `json:"names"`
	Issuer    string    `json:"issuer"`
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
}

// admit checks what wants to come in and returns it parsed, and what is to be stored.
func admit(n keysource.Name, chain, key []byte, now time.Time) (keysource.Certificate, admitted, error) {
	if want, err := keysource.ServerName(string(n)); err != nil {
		return keysource.Certificate{}, admitted{}, err
	} else if want != n {
		return keysource.Certificate{}, admitted{}, fmt.Errorf("%w: %q is written %q", keysource.ErrBadName, n, want)
	}
	c, err := keysource.ParseCertificate(chain, key, now)
	if err != nil {
		return keysource.Certificate{}, admitted{}, fmt.Errorf("%s: %w", n, err)
	}
	if !c.Covers(n) {
		return keysource.Certificate{}, admitted{}, fmt.Errorf("%s: %w: it is for %.200q, so that clients would refuse it there", n, keysource.ErrBadCertificate, c.Names)
	}
	version := c.Version()
	val, err := json.Marshal(record{format, string(n), string(c.Chain), string(c.Key), version, c.Names, c.Issuer, c.NotBefore, c.NotAfter})
	return c, admitted{version, val}, err
}

// admitted is a certificate in its stored form; the zero value: there is nothing to store.
type admitted struct {
	version string
	val     []byte
}

// Check looks at a record that comes from outside, such as a backup, and returns it as it is to be stored: it must be one that decode reads, with a key that
// belongs to its chain. Expiry is not looked at. The error wraps [keysource.ErrBadCertificate] or [keysource.ErrBadName].
func Check(n keysource.Name, val []byte) ([]byte, error) {
	c, err := decode(n, val)
	if err != nil {
		return nil, err
	}
	_, next, err := admit(n, c.Chain, c.Key, time.Time{})
	return next.val, err
}

// decode reads a stored value. Its expiry is not checked: a certificate was good when it was put, and to
// stop serving it at its end would turn an expired certificate into none, and a restart into an outage for those who went on with it
// (the last good one stays). Expiry is shown by List and alarmed on instead. Its errors quote nothing of the value, which holds a key.
func decode(n keysource.Name, val []byte) (keysource.Certificate, error) {
	bad := func(what string) (keysource.Certificate, error) {
		return keysource.Certificate{}, fmt.Errorf("%w: the stored record of %s %s: put the certificate again", keysource.ErrBadCertificate, n, what)
	}
	var r record
	d := json.NewDecoder(bytes.NewReader(val))
	d.DisallowUnknownFields()
	if d.Decode(&r) != nil {
		return bad("cannot be decoded")
	}
	if _, err := d.Token(); err != io.EOF {
		return bad("is followed by something else")
	}
	if r.Format != format {
		return bad(fmt.Sprintf("has format %d, this version reads %d", r.Format, format))
	}
	if r.Name != string(n) {
		return bad("is of another name")
	}
	c := keysource.Certificate{Chain: []byte(r.Chain), Key: []byte(r.Key), Names: r.Names, Issuer: r.Issuer, NotBefore: r.NotBefore, NotAfter: r.NotAfter}
	if c.Version() != r.Version {
		return bad("was changed since it was put")
	}
	if !c.Covers(n) {
		return bad("holds a certificate for other names")
	}
	return c, nil
}
