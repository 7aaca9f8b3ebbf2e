package corpus

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	_ "crypto/md5"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha1"
	_ "crypto/sha256"
	_ "crypto/sha512"
	"slices"
	"time"
)

// spec is a certificate before it is signed: the DER of each field, so that a seed can make any of
// them odd.
type spec struct {
	version   []byte // version is the field with its tag; nil leaves it out
	serial    []byte
	algorithm string
	issuer    []byte
	notBefore []byte
	notAfter  []byte
	subject   []byte
	spki      []byte
	ids       []byte // ids are the unique identifiers
	exts      []ext
	noExts    bool             // noExts leaves the field out
	tail      []byte           // tail stands behind the extensions
	mangle    func(tbs []byte) // mangle changes bytes before they are signed
}

type ext struct {
	id       string
	critical []byte // critical is the element; nil leaves it out, which is false
	value    []byte
}

// The extensions, RFC 5280 section 4.2.
const (
	extKeyUsage    = "2.5.29.15"
	extAltName     = "2.5.29.17"
	extConstraints = "2.5.29.19"
	extNames       = "2.5.29.30"
	extEKU         = "2.5.29.37"
	extTLSFeature  = "1.3.6.1.5.5.7.1.24"
	extUnknown     = "1.3.6.1.4.1.55555.1"
)

var (
	v1 = tlv(0xa0, small(0))
	v2 = tlv(0xa0, small(1))
	v3 = tlv(0xa0, small(2))
)

func (s *spec) add(id string, critical []byte, value []byte) {
	s.exts = append(s.exts, ext{id, critical, value})
}

func (s *spec) drop(id string) {
	s.exts = slices.DeleteFunc(s.exts, func(e ext) bool { return e.id == id })
}

func (s *spec) set(id string, critical []byte, value []byte) {
	s.drop(id)
	s.add(id, critical, value)
}

// usage is the value of keyUsage with these bits (0 is digitalSignature).
func usage(set ...int) []byte {
	var b [2]byte
	last := 0
	for _, i := range set {
		b[i/8] |= 0x80 >> (i % 8)
		last = max(last, i)
	}
	return tlv(tagBits, []byte{byte(7 - last%8)}, b[:last/8+1])
}

const (
	purposeServer = "1.3.6.1.5.5.7.3.1"
	purposeClient = "1.3.6.1.5.5.7.3.2"
	purposeCode   = "1.3.6.1.5.5.7.3.3"
	purposeAny    = "2.5.29.37.0"
)

func purposes(ids ...string) []byte {
	var all [][]byte
	for _, id := range ids {
		all = append(all, oid(id))
	}
	return seq(all...)
}

func dns(s string) []byte { return tlv(0x82, []byte(s)) }

func basic(pathLen int) []byte {
	if pathLen < 0 {
		return seq(yes)
	}
	return seq(yes, small(int64(pathLen)))
}

// algorithms maps a name to an AlgorithmIdentifier and the hash that is signed.
var algorithms = map[string]struct {
	id   []byte
	hash crypto.Hash
}{
	"ecdsa-sha1":   {seq(oid("1.2.840.10045.4.1")), crypto.SHA1},
	"ecdsa-sha256": {seq(oid("1.2.840.10045.4.3.2")), crypto.SHA256},
	"ecdsa-sha384": {seq(oid("1.2.840.10045.4.3.3")), crypto.SHA384},
	"ecdsa-sha512": {seq(oid("1.2.840.10045.4.3.4")), crypto.SHA512},
	"rsa-md5":      {seq(oid("1.2.840.113549.1.1.4"), null), crypto.MD5},
	"rsa-sha1":     {seq(oid("1.2.840.113549.1.1.5"), null), crypto.SHA1},
	"rsa-sha256":   {seq(oid("1.2.840.113549.1.1.11"), null), crypto.SHA256},
	"rsa-sha512":   {seq(oid("1.2.840.113549.1.1.13"), null), crypto.SHA512},
	"rsa-pss": {seq(oid("1.2.840.113549.1.1.10"), seq(tlv(0xa0, hash256),
		tlv(0xa1, seq(oid("1.2.840.113549.1.1.8"), hash256)), tlv(0xa2, small(32)))), crypto.SHA256},
	"ed25519": {seq(oid("1.3.101.112")), 0},
}

var hash256 = seq(oid("2.16.840.1.101.3.4.2.1"), null)

func usualAlgorithm(k key) string {
	switch k.signer.(type) {
	case *rsa.PrivateKey:
		return "rsa-sha256"
	case ed25519.PrivateKey:
		return "ed25519"
	}
	return "ecdsa-sha256"
}

// sign returns the certificate's DER.
func (s *spec) sign(by key) []byte {
	algorithm := algorithms[s.algorithm]
	parts := [][]byte{
		s.version, s.serial, algorithm.id, s.issuer, seq(s.notBefore, s.notAfter), s.subject, s.spki, s.ids,
	}
	if !s.noExts {
		var all [][]byte
		for _, e := range s.exts {
			all = append(all, seq(oid(e.id), e.critical, tlv(tagOctets, e.value)))
		}
		parts = append(parts, tlv(0xa3, seq(all...)))
	}
	tbs := seq(append(parts, s.tail)...)
	if s.mangle != nil {
		s.mangle(tbs)
	}
	var opts crypto.SignerOpts = algorithm.hash
	digest := tbs
	if algorithm.hash != 0 {
		h := algorithm.hash.New()
		h.Write(tbs)
		digest = h.Sum(nil)
	}
	if s.algorithm == "rsa-pss" {
		opts = &rsa.PSSOptions{SaltLength: 32, Hash: algorithm.hash}
	}
	return seq(tbs, algorithm.id, bits(must(by.signer.Sign(rand.Reader, digest, opts))))
}

// authority is a CA of the corpus.
type authority struct {
	key  key
	name []byte
	der  []byte
}

var day = 24 * time.Hour

// spec returns a usual certificate for k, to be signed by a.
func (a authority) spec(k key, now time.Time) *spec {
	var serial [16]byte
	rand.Read(serial[:])
	serial[0] = serial[0]&0x7f | 0x40
	return &spec{
		version: v3, serial: tlv(tagInt, serial[:]), algorithm: usualAlgorithm(a.key), issuer: a.name,
		notBefore: utcTime(now.Add(-day)), notAfter: utcTime(now.Add(90 * day)), spki: k.spki,
	}
}

// newCA makes a CA below a, or a root if a has no key. edit changes its certificate before it is
// signed.
func (a authority) newCA(k key, called string, now time.Time, edit func(*spec)) authority {
	ca := authority{key: k, name: commonName(called)}
	if a.key.signer == nil {
		a = ca
	}
	s := a.spec(k, now)
	s.subject = ca.name
	s.notBefore, s.notAfter = utcTime(now.Add(-10*day)), utcTime(now.Add(900*day))
	s.add(extConstraints, yes, basic(-1))
	s.add(extKeyUsage, yes, usage(5, 6))
	if edit != nil {
		edit(s)
		ca.name = s.subject
	}
	ca.der = s.sign(a.key)
	return ca
}

func pemOf(ders ...[]byte) []byte {
	var b bytes.Buffer
	for _, d := range ders {
		b.Write(block("CERTIFICATE", d))
	}
	return b.Bytes()
}
