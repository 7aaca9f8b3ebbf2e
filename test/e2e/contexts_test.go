package e2e

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/probe"
	"github.com/lockstep-tls/lockstep/test/fleet"
)

// likeness is what a certificate is issued like, down to the encoding of its names.
type likeness struct {
	subject []pkix.AttributeTypeAndValue // each is a set of its own, unless joined
	joined  bool                         // all of subject are one set
	sans    []asn1.RawValue
	issuer  *issuer
	above   [][]byte // DER of what follows the leaf
	key     crypto.Signer
	days    int
	more    []pkix.Extension
	sign    x509.SignatureAlgorithm
}

// issuer signs certificates under a name of any encoding.
type issuer struct {
	name []byte // DER
	key  crypto.Signer
}

var (
	oidCN = asn1.ObjectIdentifier{2, 5, 4, 3}
	oidO  = asn1.ObjectIdentifier{2, 5, 4, 10}
	oidOU = asn1.ObjectIdentifier{2, 5, 4, 11}
)

// nameAttribute is one of a name, as a string of that kind.
func nameAttribute(oid asn1.ObjectIdentifier, kind int, content string) pkix.AttributeTypeAndValue {
	return pkix.AttributeTypeAndValue{Type: oid, Value: asn1.RawValue{Tag: kind, Bytes: []byte(content)}}
}

func commonNames(names ...string) (out []pkix.AttributeTypeAndValue) {
	for _, n := range names {
		out = append(out, nameAttribute(oidCN, asn1.TagUTF8String, n))
	}
	return out
}

// general is a GeneralName of that tag (RFC 5280, section 4.2.1.6).
func general(tag int, content string) asn1.RawValue {
	return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tag, Bytes: []byte(content)}
}

func dns(name string) asn1.RawValue { return general(2, name) }
func uri(name string) asn1.RawValue { return general(6, name) }
func ip(s string) asn1.RawValue {
	a := net.ParseIP(s)
	if four := a.To4(); four != nil {
		a = four
	}
	return general(7, string(a))
}

func (s *stage) der(v any) []byte {
	s.t.Helper()
	b, err := asn1.Marshal(v)
	s.ok(err)
	return b
}

// name encodes a distinguished name.
func (s *stage) name(all []pkix.AttributeTypeAndValue, joined bool) []byte {
	s.t.Helper()
	sets := []pkix.RelativeDistinguishedNameSET{}
	for _, a := range all {
		if joined && len(sets) > 0 {
			sets[0] = append(sets[0], a)
		} else {
			sets = append(sets, pkix.RelativeDistinguishedNameSET{a})
		}
	}
	return s.der(sets)
}

// certify issues it.
func (s *stage) certify(l likeness) fleet.Pair {
	s.t.Helper()
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 100))
	s.ok(err)
	template := &x509.Certificate{
		SerialNumber: serial, RawSubject: s.name(l.subject, l.joined), SignatureAlgorithm: l.sign,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(0, 0, l.days),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		ExtraExtensions: append([]pkix.Extension{
			{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Critical: len(l.subject) == 0, Value: s.der(l.sans)},
		}, l.more...),
	}
	parent := &x509.Certificate{RawSubject: l.issuer.name}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, l.key.Public(), l.issuer.key)
	s.ok(err)
	key, err := x509.MarshalPKCS8PrivateKey(l.key)
	s.ok(err)
	var p fleet.Pair
	for _, c := range append([][]byte{der}, l.above...) {
		p.Chain = append(p.Chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c})...)
	}
	p.Key = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})
	return p
}

// root issues the certificate of an issuer, as a CA.
func (s *stage) root(i *issuer) []byte {
	s.t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), RawSubject: i.name, IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().AddDate(1, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, i.key.Public(), i.key)
	s.ok(err)
	return der
}

func (s *stage) ecKey(c elliptic.Curve) crypto.Signer {
	s.t.Helper()
	k, err := ecdsa.GenerateKey(c, rand.Reader)
	s.ok(err)
	return k
}

func (s *stage) rsaKey(bits int) crypto.Signer {
	s.t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, bits)
	s.ok(err)
	return k
}

// TestPlanAgreesWithEnvoyOnTickets: each host gets a certificate, and then one in which one thing
// is another. What `lockstep plan` says of the host's tickets is what they do at a real Envoy, by
// TLS version.
func TestPlanAgreesWithEnvoyOnTickets(t *testing.T) {
	t.Parallel()
	s := newStage(t, setup{hosts: 1, scopes: "  default: {ticket_lifetime: 1h}\n", later: true})
	s.hosts = nil
	first := &issuer{s.name(commonNames("Context CA"), false), s.ecKey(elliptic.P256())}
	p256, keyOfRSA := s.ecKey(elliptic.P256()), s.rsaKey(2048)
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	s.ok(err)

	// A change is of what has been issued for host; both is of both certificates, before.
	type change func(l *likeness)
	names := func(all ...string) change { return func(l *likeness) { l.subject = commonNames(all...) } }
	sans := func(more ...asn1.RawValue) change { return func(l *likeness) { l.sans = append(l.sans, more...) } }
	issued := func(i *issuer) change { return func(l *likeness) { l.issuer = i } }
	key := func(k crypto.Signer) change { return func(l *likeness) { l.key = k } }
	reverse := func(l *likeness) { slices.Reverse(l.sans) }
	subject := func(all ...pkix.AttributeTypeAndValue) change {
		return func(l *likeness) { l.subject = all }
	}
	otherKey := &issuer{first.name, s.ecKey(elliptic.P256())}
	cases := []struct {
		what         string
		before, then change // then begins with what before made
	}{
		{"nothing", nil, nil},
		{"another key of the kind", nil, key(s.ecKey(elliptic.P256()))},
		{"another curve", nil, key(s.ecKey(elliptic.P384()))},
		{"Ed25519 after ECDSA", nil, key(ed)},
		{"RSA after ECDSA", nil, key(keyOfRSA)},
		{"ECDSA after RSA", key(keyOfRSA), key(p256)},
		{"Ed25519 after RSA", key(keyOfRSA), key(ed)},
		{"RSA of another size", key(keyOfRSA), key(s.rsaKey(3072))},
		{"another validity", nil, func(l *likeness) { l.days = 40 }},
		{"another signature algorithm", nil, func(l *likeness) { l.sign = x509.ECDSAWithSHA384 }},
		{"a further extension", nil, func(l *likeness) {
			oid := asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}
			l.more = append(l.more, pkix.Extension{Id: oid, Value: []byte{5, 0}})
		}},
		{"the issuer's certificate behind the leaf", nil, func(l *likeness) { l.above = [][]byte{s.root(first)} }},

		{"another issuer", nil, issued(&issuer{s.name(commonNames("Other CA"), false), s.ecKey(elliptic.P256())})},
		{"another key of the issuer", nil, issued(otherKey)},
		{"the issuer's name in another encoding", nil, issued(&issuer{
			s.name([]pkix.AttributeTypeAndValue{nameAttribute(oidCN, asn1.TagPrintableString, "Context CA")}, false),
			first.key})},
		{"the issuer's name with an organization", nil, issued(&issuer{
			s.name(append(commonNames("Context CA"), nameAttribute(oidO, asn1.TagUTF8String, "O")), false),
			first.key})},

		{"the order of two common names", names("a", "b"), names("b", "a")},
		{"the second common name", names("a", "b"), names("a", "c")},
		{"the last of three common names", names("a", "b", "c"), names("a", "b")},
		{"the first of two common names", names("a", "b"), names("b")},
		{"the only common name", names("a"), names("b")},
		{"the case of the common name", names("a"), names("A")},
		{"no common name any more", names("a"), names()},
		{"a common name that was not there", names(), names("a")},
		{"the encoding of the common name", names("a"), subject(nameAttribute(oidCN, asn1.TagPrintableString, "a"))},
		{"the common name as UTF-16", names("a"), subject(nameAttribute(oidCN, asn1.TagBMPString, "\x00a"))},
		{"another attribute of the subject", names("a"),
			subject(nameAttribute(oidO, asn1.TagUTF8String, "O"), commonNames("a")[0])},
		{"other common names behind an organization", subject(nameAttribute(oidO, asn1.TagUTF8String, "O"),
			commonNames("a")[0], commonNames("b")[0]), subject(commonNames("a")[0], commonNames("c")[0])},
		{"two common names in one set", func(l *likeness) { l.subject, l.joined = commonNames("a", "b"), true },
			names("a", "b")},
		{"a common name beside another attribute in a set", func(l *likeness) {
			l.subject, l.joined = append(commonNames("a"), nameAttribute(oidOU, asn1.TagUTF8String, "x")), true
		}, names("a")},
		{"the common name became the first alternative name", func(l *likeness) {
			l.subject, l.sans = commonNames("b.example"), append([]asn1.RawValue{}, l.sans...)
		}, func(l *likeness) { l.subject, l.sans = nil, append([]asn1.RawValue{dns("b.example")}, l.sans...) }},

		{"a URI", sans(uri("spiffe://t/a")), func(l *likeness) { l.sans[1] = uri("spiffe://t/b") }},
		{"a URI that was not there", nil, sans(uri("spiffe://t/a"))},
		{"no URI any more", sans(uri("spiffe://t/a")), func(l *likeness) { l.sans = l.sans[:1] }},
		{"the order of URIs", sans(uri("spiffe://t/a"), uri("https://t/b")), reverse},
		{"a URI before the name", sans(uri("spiffe://t/a")), reverse},
		{"an address", sans(ip("192.0.2.1")), func(l *likeness) { l.sans[1] = ip("192.0.2.2") }},
		{"an address that was not there", nil, sans(ip("192.0.2.1"))},
		{"an IPv6 address", sans(ip("2001:db8::1")), func(l *likeness) { l.sans[1] = ip("2001:db8::2") }},
		{"the order of addresses", sans(ip("192.0.2.1"), ip("2001:db8::1")), reverse},
		{"a name that was not there", nil, sans(dns("b.example"))},
		{"no second name any more", sans(dns("b.example")), func(l *likeness) { l.sans = l.sans[:1] }},
		{"the order of names", sans(dns("b.example")), reverse},
		{"the case of a name", sans(dns("b.example")), func(l *likeness) { l.sans[1] = dns("B.example") }},
		{"a name twice", nil, func(l *likeness) { l.sans = append(l.sans, l.sans[0]) }},
		{"two names in one", sans(dns("b.example"), dns("c.example")),
			func(l *likeness) { l.sans = append(l.sans[:1:1], dns("b.examplec.example")) }},
		{"a mail address that was not there", nil, sans(general(1, "a@b.example"))},
		{"another mail address", sans(general(1, "a@b.example")),
			func(l *likeness) { l.sans[1] = general(1, "c@b.example") }},
		{"another name of a kind of its own", nil, func(l *likeness) {
			value := s.der(asn1.RawValue{Class: asn1.ClassContextSpecific, IsCompound: true, Bytes: s.der("x")})
			oid := s.der(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 20, 2, 3})
			l.sans = append(l.sans, asn1.RawValue{Class: asn1.ClassContextSpecific, IsCompound: true,
				Bytes: slices.Concat(oid, value)})
		}},
		{"a registered ID that was not there", nil, sans(general(8, "\x2a\x03\x04"))},
		{"a directory name that was not there", nil, func(l *likeness) {
			l.sans = append(l.sans, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 4, IsCompound: true,
				Bytes: s.name(commonNames("x"), false)})
		}},
	}

	before, then := make([]fleet.Pair, len(cases)), make([]fleet.Pair, len(cases))
	for i, c := range cases {
		host := fmt.Sprintf("case-%d.example", i)
		l := likeness{subject: commonNames("leaf"), sans: []asn1.RawValue{dns(host)}, issuer: first, key: p256,
			days: 20}
		if c.before != nil {
			c.before(&l)
		}
		before[i] = s.certify(l)
		l.sans = slices.Clone(l.sans)
		l.joined = l.joined && c.then == nil
		if c.then != nil {
			c.then(&l)
		}
		then[i] = s.certify(l)
		s.hosts = append(s.hosts, host)
		s.ok(fleet.WriteHost(s.certs, host, before[i]))
	}
	s.start()
	e := s.envoy("edge-1")
	s.awaitReady()
	s.awaitPhase("steady", 1)

	versions := map[string]uint16{"TLS 1.2": tls.VersionTLS12, "TLS 1.3": tls.VersionTLS13}
	held := make([]map[string]*probe.Session, len(cases))
	ended := make([][]string, len(cases))
	count := map[bool]int{}
	for i, host := range s.hosts {
		held[i] = map[string]*probe.Session{}
		for v, version := range versions {
			if held[i][v] = s.session(e, host, version); held[i][v] == nil {
				t.Fatalf("%s: %s gave no ticket", cases[i].what, v)
			}
		}
		var plan struct {
			Ends  bool `json:"ends_tickets"`
			Ended []string
		}
		s.ok(s.show(&plan, "plan", "--cert", host, "--chain", s.file("next.crt", then[i].Chain)))
		if plan.Ends != (len(plan.Ended) > 0) {
			t.Errorf("%s: the plan is %+v", cases[i].what, plan)
		}
		ended[i] = plan.Ended
	}
	for i, host := range s.hosts {
		s.ok(fleet.WriteHost(s.certs, host, then[i]))
	}
	for i, host := range s.hosts {
		s.eventuallyWithin(60*time.Second, func() error { return s.serving(e, host, then[i]) })
		for v, version := range versions {
			resumed, err := s.again(e, host, version, held[i][v])
			s.ok(err)
			if resumed == slices.Contains(ended[i], v) {
				t.Errorf("%s: Envoy resumed a session of %s: %v; the plan ends those of %q", cases[i].what, v, resumed,
					ended[i])
			}
			count[resumed]++
		}
	}
	if count[true] < len(cases)/2 || count[false] < len(cases)/2 {
		t.Errorf("resumed and not: %v, of %d changes: they show too little", count, len(cases))
	}
	t.Logf("%d changes: %d sessions resumed, %d did not", len(cases), count[true], count[false])
}
