package corpus

import (
	"bytes"
	"crypto/elliptic"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"time"
)

func p256() key { return ecKey(elliptic.P256()) }

type family struct {
	name string
	make func(g *generator)
}

// families are the rules that the corpus tries. Each is called once for each seed.
var families = []family{
	// Keys.
	{"key: EC curve", func(g *generator) {
		for _, c := range []elliptic.Curve{elliptic.P224(), elliptic.P256(), elliptic.P384(), elliptic.P521()} {
			g.withKey(c.Params().Name, ecKey(c))
		}
	}},
	{"key: EC curve unknown to Go", func(g *generator) {
		c := pick(g, "secp256k1", "brainpoolP256r1", "brainpoolP384r1", "prime192v1")
		g.foreign(c, "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:"+c)
	}},
	{"key: EC with explicit parameters", func(g *generator) {
		g.foreign("P-256", "-algorithm", "EC",
			"-pkeyopt", "ec_paramgen_curve:P-256", "-pkeyopt", "ec_param_enc:explicit")
	}},
	{"key: EC compressed point", func(g *generator) {
		k := p256()
		point := k.spki[len(k.spki)-65:]
		short := append([]byte{2 + point[64]&1}, point[1:33]...)
		k.spki = seq(seq(oid("1.2.840.10045.2.1"), oid("1.2.840.10045.3.1.7")), bits(short))
		g.withKey("P-256", k)
	}},
	{"key: Ed25519", func(g *generator) {
		g.withKey("usual", edKey())
		set := some(g, 0, 2, 3, 4)
		g.under("keyUsage "+words(set), g.inter, edKey(),
			func(s *spec) { s.set(extKeyUsage, yes, usage(set...)) }, g.inter.der)
	}},
	{"key: Ed448, X25519, X448", func(g *generator) {
		for _, a := range some(g, "ED448", "X25519", "X448") {
			g.foreign(a, "-algorithm", a)
		}
	}},
	{"key: DSA", func(g *generator) {
		k := g.keys.get("dsa", func() key {
			parameters, err := openssl(nil, "genpkey", "-genparam",
				"-algorithm", "DSA", "-pkeyopt", "dsa_paramgen_bits:1024")
			g.err = err
			private, err := openssl(parameters, "genpkey", "-paramfile", "/dev/stdin", "-outform", "DER")
			if err != nil {
				g.err = err
				return key{}
			}
			return key{
				pem:  block("PRIVATE KEY", private),
				spki: must(openssl(private, "pkey", "-inform", "DER", "-pubout", "-outform", "DER")),
			}
		})
		g.withKey("1024", k)
	}},
	{"key: RSA-PSS", func(g *generator) {
		k := g.keys.get("pss", func() key {
			k, err := foreign("-algorithm", "RSA-PSS", "-pkeyopt", "rsa_keygen_bits:2048")
			g.err = err
			return k
		})
		g.withKey("2048", k)
	}},
	{"key: RSA size", func(g *generator) {
		sizes := []int{1024, 2040, 2047, 2048, 2049, 3072, 4096}
		for _, size := range some(g, sizes...) {
			g.withKey(fmt.Sprint(size), g.rsa(size, 2, 65537).key())
		}
	}},
	{"key: RSA below 2048", func(g *generator) {
		size := pick(g, 512, 1024, 1536, 2040, 2047)
		g.withKey(fmt.Sprint(size), g.rsa(size, 2, 65537).key())
	}},
	{"key: RSA of 8192 bits", func(g *generator) { g.withKey("8192", g.keys.get("8192", largestRSA)) }},
	{"key: RSA above 8192", func(g *generator) {
		size := pick(g, 8200, 9000, 16384)
		g.withKey(fmt.Sprint(size), g.keys.get(fmt.Sprint("coarse", size), func() key { return coarse(size).key() }))
	}},
	{"key: RSA exponent", func(g *generator) {
		e := pick[int64](g, 3, 5, 17, 257, 65539)
		g.withKey(fmt.Sprint(e), g.rsa(2048, 2, e).key())
	}},
	{"key: RSA exponent large", func(g *generator) {
		e := pick[int64](g, 1<<31-1, 1<<31+11, 1<<32+15, 1<<33-9, 1<<33+17, 1<<40+15)
		g.withKey(fmt.Sprint(e), g.rsa(2048, 2, e).key())
	}},
	{"key: RSA exponent of no use", func(g *generator) {
		k := g.rsa(2048, 2, 65537)
		k.e = big.NewInt(pick[int64](g, 0, 1, 2, 4, 65536))
		g.withKey(k.e.String(), k.key())
	}},
	{"key: RSA multi-prime", func(g *generator) {
		k := g.rsa(3072, pick(g, 3, 4), 65537)
		form, note := k.key, "PKCS#8"
		if g.IntN(2) == 0 {
			form, note = k.older, "PKCS#1"
		}
		g.withKey(fmt.Sprintf("%d primes, %s", len(k.primes), note), form())
	}},
	{"key: RSA as PKCS#1", func(g *generator) { g.withKey("2048", g.rsa(2048, 2, 65537).older()) }},
	{"key: RSA primes exchanged", func(g *generator) {
		k := g.rsa(2048, 2, 65537)
		k.primes = []*big.Int{k.primes[1], k.primes[0]}
		g.withKey("2048", k.key())
	}},
	{"key: RSA numbers that do not fit", func(g *generator) {
		k := g.rsa(2048, 2, 65537)
		private, _ := k.pkcs1()
		note := pick(g, "coefficient", "exponent1", "d")
		switch note {
		case "coefficient":
			private[len(private)-1] ^= 2
		case "exponent1":
			private[len(private)-2*(128+4)-1] ^= 2
		case "d":
			private[len(private)-5*(128+4)-9] ^= 2
		}
		out := k.key()
		out.pem = block("PRIVATE KEY", seq(small(0), rsaAlgorithm, tlv(tagOctets, private)))
		g.withKey(note, out)
	}},
	{"key: RSA without NULL parameters", func(g *generator) {
		k := g.rsa(2048, 2, 65537)
		_, public := k.pkcs1()
		out := k.key()
		out.spki = seq(seq(oid("1.2.840.113549.1.1.1")), bits(public))
		g.withKey("2048", out)
	}},
	{"key: of another certificate", func(g *generator) { g.vary("P-256", nil).key = p256().pem }},
	{"key: of another kind", func(g *generator) { g.vary("Ed25519 for P-256", nil).key = edKey().pem }},
	{"key: garbled", func(g *generator) {
		s := g.vary("a byte of the DER", nil)
		p, _ := pem.Decode(s.key)
		p.Bytes[g.IntN(30)] ^= byte(1 + g.IntN(255))
		s.key = pem.EncodeToMemory(p)
	}},
	{"key: trailing data", func(g *generator) {
		s := g.vary("PKCS#8", nil)
		p, _ := pem.Decode(s.key)
		s.key = block("PRIVATE KEY", append(p.Bytes, 0, 0))
	}},

	// Key usage.
	{"keyUsage: EC", func(g *generator) {
		for range 3 {
			set := some(g, 0, 1, 2, 3, 4, 5, 6, 7, 8)
			g.vary(words(set), func(s *spec) { s.set(extKeyUsage, yes, usage(set...)) })
		}
	}},
	{"keyUsage: EC without digitalSignature", func(g *generator) {
		set := some(g, 1, 2, 3, 4, 7, 8)
		g.vary(words(set), func(s *spec) { s.set(extKeyUsage, pick(g, yes, nil), usage(set...)) })
	}},
	{"keyUsage: RSA", func(g *generator) {
		for range 2 {
			set := some(g, 0, 1, 2, 3, 4, 5, 6, 7, 8)
			g.under(words(set), g.inter, g.rsa(2048, 2, 65537).key(),
				func(s *spec) { s.set(extKeyUsage, yes, usage(set...)) }, g.inter.der)
		}
	}},
	{"keyUsage: RSA for other things", func(g *generator) {
		set := some(g, 1, 5, 6)
		g.under(words(set), g.inter, g.rsa(2048, 2, 65537).key(),
			func(s *spec) { s.set(extKeyUsage, yes, usage(set...)) }, g.inter.der)
	}},
	{"keyUsage: none", func(g *generator) { g.vary("left out", func(s *spec) { s.drop(extKeyUsage) }) }},
	{"keyUsage: empty", func(g *generator) {
		g.vary("no bit", func(s *spec) {
			s.set(extKeyUsage, yes, pick(g, tlv(tagBits, []byte{0}), tlv(tagBits, []byte{7, 0})))
		})
	}},
	{"keyUsage: malformed", func(g *generator) {
		value := pick(g, tlv(tagOctets, []byte{0x80}), tlv(tagBits, []byte{9, 0x80}), []byte{},
			tlv(tagBits, []byte{7, 0x81}), append(usage(0), 5, 0))
		g.vary(fmt.Sprintf("%x", value), func(s *spec) { s.set(extKeyUsage, yes, value) })
	}},

	// Extended key usage.
	{"extendedKeyUsage: without serverAuth", func(g *generator) {
		ids := some(g, purposeClient, purposeCode, "1.3.6.1.5.5.7.3.4", "1.3.6.1.5.5.7.3.9", "1.3.6.1.4.1.55555.9")
		g.vary(words(ids), func(s *spec) { s.set(extEKU, pick(g, yes, nil), purposes(ids...)) })
	}},
	{"extendedKeyUsage: any", func(g *generator) {
		g.vary("any", func(s *spec) { s.set(extEKU, nil, purposes(purposeAny)) })
	}},
	{"extendedKeyUsage: client and any", func(g *generator) {
		g.vary("clientAuth, any", func(s *spec) {
			s.set(extEKU, pick(g, yes, nil), purposes(purposeClient, purposeAny))
		})
	}},
	{"extendedKeyUsage: several", func(g *generator) {
		g.vary("serverAuth and others", func(s *spec) {
			s.set(extEKU, pick(g, yes, nil), purposes(purposeClient, purposeServer, purposeCode))
		})
	}},
	{"extendedKeyUsage: none", func(g *generator) { g.vary("left out", func(s *spec) { s.drop(extEKU) }) }},
	{"extendedKeyUsage: server gated crypto", func(g *generator) {
		id := pick(g, "2.16.840.1.113730.4.1", "1.3.6.1.4.1.311.10.3.3")
		g.vary(id, func(s *spec) { s.set(extEKU, nil, purposes(id)) })
	}},
	{"extendedKeyUsage: empty or malformed", func(g *generator) {
		value := pick(g, seq(), seq(text(tagUTF8, "x")), []byte{}, oid(purposeServer))
		g.vary(fmt.Sprintf("%x", value), func(s *spec) { s.set(extEKU, nil, value) })
	}},
	{"extendedKeyUsage: of the CA", func(g *generator) {
		ids := pick(g, []string{purposeClient}, []string{purposeServer}, []string{purposeServer, purposeClient},
			[]string{purposeCode, purposeClient}, []string{purposeAny})
		g.below(words(ids), func(s *spec) { s.set(extEKU, nil, purposes(ids...)) })
	}},
	{"extendedKeyUsage: of the CA, without serverAuth", func(g *generator) {
		g.below("clientAuth", func(s *spec) { s.set(extEKU, nil, purposes(purposeClient)) })
	}},

	// Must-staple.
	{"must-staple", func(g *generator) {
		g.vary("status_request", func(s *spec) { s.add(extTLSFeature, pick(g, nil, no), seq(small(5))) })
	}},
	{"must-staple: with another feature", func(g *generator) {
		v := pick(g, seq(small(5), small(17)), seq(small(17), small(5)), seq(small(17)), seq(small(23)))
		g.vary(fmt.Sprintf("%x", v), func(s *spec) { s.add(extTLSFeature, nil, v) })
	}},
	{"must-staple: critical", func(g *generator) {
		g.vary("status_request", func(s *spec) { s.add(extTLSFeature, yes, seq(small(5))) })
	}},
	{"must-staple: malformed", func(g *generator) {
		v := pick(g, []byte{}, seq(), seq(text(tagUTF8, "5")), small(5),
			seq(tlv(tagInt, []byte{0, 5})), append(seq(small(5)), 0))
		g.vary(fmt.Sprintf("%x", v), func(s *spec) { s.add(extTLSFeature, nil, v) })
	}},
	{"must-staple: of the CA", func(g *generator) {
		g.below("status_request", func(s *spec) { s.add(extTLSFeature, nil, seq(small(5))) })
	}},

	// Names.
	{"name: no subject", func(g *generator) {
		g.vary("names only", func(s *spec) {
			s.subject = name()
			s.set(extAltName, pick(g, yes, nil), s.exts[len(s.exts)-1].value)
		})
	}},
	{"name: empty common name", func(g *generator) {
		tag := pick[byte](g, tagUTF8, tagPrintable, tagIA5, tagBMP, tagT61)
		g.vary(fmt.Sprintf("tag %#x", tag), func(s *spec) { s.subject = name(attribute(oidCN, tlv(tag))) })
	}},
	{"name: several common names", func(g *generator) {
		g.named("two", func(s *spec, host string) {
			s.subject = name(attribute(oidCN, text(tagUTF8, "first")), attribute(oidCN, text(tagUTF8, host)))
		})
	}},
	{"name: several common names, one empty", func(g *generator) {
		first := g.IntN(2) == 0
		g.named(fmt.Sprint("the first is empty: ", first), func(s *spec, host string) {
			a, b := attribute(oidCN, text(tagUTF8, "")), attribute(oidCN, text(tagUTF8, host))
			if s.subject = name(b, a); first {
				s.subject = name(a, b)
			}
		})
	}},
	{"name: common name only", func(g *generator) { g.vary("no SAN", func(s *spec) { s.drop(extAltName) }) }},
	{"name: neither", func(g *generator) {
		g.vary("no CN, no SAN", func(s *spec) {
			s.drop(extAltName)
			s.subject = pick(g, name(), name(attribute(oidOrg, text(tagUTF8, "Corpus"))))
		})
	}},
	{"name: NUL in the common name", func(g *generator) {
		g.named("NUL", func(s *spec, host string) { s.subject = commonName(host + "\x00.evil.test") })
	}},
	{"name: long common name", func(g *generator) {
		n := pick(g, 65, 200, 3000, 40000)
		g.vary(fmt.Sprint(n), func(s *spec) { s.subject = commonName(strings.Repeat("x", n)) })
	}},
	{"name: encodings of the subject", func(g *generator) {
		for _, v := range some(g, bmp("Körps"), text(tagT61, "K\xf6rps"), text(tagIA5, "corpus"),
			text(tagPrintable, "corpus"), text(tagVisible, "corpus"),
			text(12, "körps"), tlv(tagUniversal, []byte("\x00\x00\x00c")), text(18, "123")) {
			g.vary(fmt.Sprintf("tag %#x", v[0]), func(s *spec) {
				s.subject = name(attribute(oidOrg, v), attribute(oidCN, text(tagUTF8, "x")))
			})
		}
	}},
	{"name: broken encoding of the subject", func(g *generator) {
		v := pick(g, text(tagUTF8, "\xff\xfe"), tlv(tagBMP, []byte("abc")), tlv(tagBMP, []byte{0xd8, 0, 0, 'x'}),
			text(tagPrintable, "a@b*"), text(tagIA5, "\xc3\xa4"),
			tlv(tagUniversal, []byte("abc")), text(tagUTF8, "\xed\xa0\x80"), text(18, "x"))
		id := pick(g, oidOrg, oidCN)
		g.vary(fmt.Sprintf("%s %x", id, v), func(s *spec) { s.subject = name(attribute(id, v)) })
	}},
	{"name: odd values in the subject", func(g *generator) {
		v := pick(g, null, small(7), yes, seq(), bits([]byte{1, 2}), tlv(tagOctets, []byte("x")), oid("1.2.3"))
		g.vary(fmt.Sprintf("%x", v), func(s *spec) {
			s.subject = name(attribute("2.5.4.45", v), attribute(oidCN, text(tagUTF8, "x")))
		})
	}},
	{"name: odd value as the common name", func(g *generator) {
		v := pick(g, null, small(7), yes, seq(), bits([]byte{1, 2}),
			tlv(tagOctets, []byte("x")), tlv(tagOctets), bits(nil))
		g.vary(fmt.Sprintf("%x", v), func(s *spec) { s.subject = name(attribute(oidCN, v)) })
	}},
	{"name: two attributes in a set", func(g *generator) {
		g.named("CN and O", func(s *spec, host string) {
			s.subject = seq(tlv(tagSet, attribute(oidCN, text(tagUTF8, host)),
				attribute(oidOrg, text(tagUTF8, "Corpus"))))
		})
	}},
	{"name: empty set in the subject", func(g *generator) {
		g.vary("SET {}", func(s *spec) { s.subject = seq(tlv(tagSet)) })
	}},

	// Alternative names.
	{"SAN: critical", func(g *generator) {
		g.vary("critical", func(s *spec) { s.set(extAltName, yes, s.exts[len(s.exts)-1].value) })
	}},
	{"SAN: no DNS name", func(g *generator) {
		v := pick(g, tlv(0x87, []byte{127, 0, 0, 1}), tlv(0x86, []byte("spiffe://corpus.test/x")),
			tlv(0x81, []byte("a@corpus.test")), tlv(0x88, oid("1.2.3")[2:]))
		g.vary(fmt.Sprintf("tag %#x", v[0]), func(s *spec) { s.set(extAltName, nil, seq(v)) })
	}},
	{"SAN: no DNS name and no subject", func(g *generator) {
		for _, v := range some(g, tlv(0x87, []byte{127, 0, 0, 1}), tlv(0x86, []byte("spiffe://corpus.test/x")),
			tlv(0x81, []byte("a@corpus.test")), tlv(0x88, oid("1.2.3")[2:])) {
			g.vary(fmt.Sprintf("tag %#x", v[0]), func(s *spec) { s.subject = name(); s.set(extAltName, yes, seq(v)) })
		}
	}},
	{"SAN: several kinds", func(g *generator) {
		g.mixed("all", tlv(0x87, []byte{127, 0, 0, 1}), tlv(0x86, []byte("spiffe://corpus.test/x")),
			tlv(0x81, []byte("a@corpus.test")), tlv(0x88, oid("1.2.3")[2:]), tlv(0xa4, commonName("x")))
	}},
	{"SAN: twice the same name", func(g *generator) {
		g.named("DNS", func(s *spec, host string) { s.set(extAltName, nil, seq(dns(host), dns(host), dns("b."+host))) })
	}},
	{"SAN: many", func(g *generator) {
		n := pick(g, 100, 300, 1000)
		g.named(fmt.Sprint(n), func(s *spec, host string) {
			all := [][]byte{dns(host)}
			for i := range n {
				all = append(all, dns(fmt.Sprintf("n%d.%s", i, host)))
			}
			s.set(extAltName, nil, seq(all...))
		})
	}},
	{"SAN: odd DNS names", func(g *generator) {
		for _, n := range some(g, "trailing.dot.test.", "under_score.test", "*", "*.*.test",
			"a.*.test", "*a.test", "", " ", "xn--a", "UPPER.TEST", "a..b", ".test", "192.0.2.1",
			strings.Repeat("a", 64)+".test", strings.Repeat("a.", 150)+"test") {
			g.mixed(fmt.Sprintf("%.40q", n), dns(n))
		}
	}},
	{"SAN: wildcard", func(g *generator) {
		host := g.next()
		k := p256()
		s := g.leaf(g.inter, k, host)
		s.set(extAltName, nil, seq(dns("*.corpus.test")))
		g.add("*.corpus.test", host, k, s.sign(g.inter.key), g.inter.der)
	}},
	{"SAN: not ASCII", func(g *generator) {
		g.mixed("UTF-8", dns(pick(g, "bücher.test", "\xff.test", "\x00.test", "a\x00.test")))
	}},
	{"SAN: broken address", func(g *generator) {
		g.mixed("5 bytes", tlv(0x87, []byte{1, 2, 3, 4, 5}[:pick(g, 0, 3, 5)]))
	}},
	{"SAN: broken URI", func(g *generator) {
		g.mixed("URI", tlv(0x86, []byte(pick(g, "http://[::1", "%%", "http://a b/", "\xff://x", ""))))
	}},
	{"SAN: broken other name", func(g *generator) {
		v := pick(g, tlv(0xa0, []byte{1}), tlv(0xa0), tlv(0xa0, oid("1.2.3")), tlv(0xa0, oid("1.2.3"), small(1)))
		g.mixed(fmt.Sprintf("%x", v), v)
	}},
	{"SAN: broken other name, no common name", func(g *generator) {
		v := pick(g, tlv(0xa0, []byte{1}), tlv(0xa0), tlv(0xa4, []byte{1, 1}), tlv(0xa5), tlv(0x88),
			tlv(0x88, []byte{0x80}), tlv(0xa3, []byte{7}))
		g.named(fmt.Sprintf("%x", v),
			func(s *spec, host string) { s.subject = name(); s.set(extAltName, yes, seq(dns(host), v)) })
	}},
	{"SAN: other name, no common name", func(g *generator) {
		g.named("UPN", func(s *spec, host string) {
			s.subject = name()
			s.set(extAltName, yes, seq(dns(host),
				tlv(0xa0, oid("1.3.6.1.4.1.311.20.2.3"), tlv(0xa0, text(tagUTF8, "a@b")))))
		})
	}},
	{"SAN: unknown tag", func(g *generator) {
		v := pick(g, tlv(0x89, []byte("x")), tlv(0x82|0x20, dns("x")), small(1), tlv(0x9e, []byte("x")))
		subject := g.IntN(2) == 0
		g.named(fmt.Sprintf("%x, subject %v", v, subject), func(s *spec, host string) {
			if !subject {
				s.subject = name()
			}
			s.set(extAltName, nil, seq(dns(host), v))
		})
	}},
	{"SAN: empty", func(g *generator) {
		subject := g.IntN(2) == 0
		g.vary(fmt.Sprint("subject ", subject), func(s *spec) {
			if s.set(extAltName, nil, seq()); !subject {
				s.subject = name()
			}
		})
	}},
	{"SAN: trailing data", func(g *generator) {
		g.named("NULL behind", func(s *spec, host string) {
			s.set(extAltName, nil, append(seq(dns(host)), null...))
			s.subject = pick(g, name(), commonName("x"))
		})
	}},
	{"SAN: twice the extension", func(g *generator) {
		g.named("two", func(s *spec, host string) { s.add(extAltName, nil, seq(dns("b."+host))) })
	}},

	// Extensions.
	{"extension: unknown critical", func(g *generator) {
		g.vary("leaf", func(s *spec) { s.add(extUnknown, yes, null) })
	}},
	{"extension: unknown critical, CA", func(g *generator) {
		g.below("CA", func(s *spec) { s.add(extUnknown, yes, null) })
	}},
	{"extension: unknown", func(g *generator) {
		g.vary("leaf", func(s *spec) { s.add(extUnknown, pick(g, nil, no), []byte("anything")) })
	}},
	{"extension: twice", func(g *generator) {
		id := pick(g, extUnknown, extKeyUsage, extEKU)
		g.vary(id, func(s *spec) {
			value := usage(0)
			if id == extEKU {
				value = purposes(purposeServer)
			}
			s.set(id, nil, value)
			s.add(id, nil, value)
		})
	}},
	{"extension: twice in the CA", func(g *generator) {
		g.below("unknown", func(s *spec) { s.add(extUnknown, nil, null); s.add(extUnknown, nil, null) })
	}},
	{"extension: critical is no BOOLEAN of DER", func(g *generator) {
		g.vary("0x01", func(s *spec) { s.add(extUnknown, []byte{tagBool, 1, 1}, null) })
	}},
	{"extension: none at all", func(g *generator) { g.vary("v3 without", func(s *spec) { s.noExts = true }) }},
	{"extension: empty list", func(g *generator) { g.vary("SEQUENCE {}", func(s *spec) { s.exts = nil }) }},
	{"extension: empty list in the CA", func(g *generator) { g.below("SEQUENCE {}", func(s *spec) { s.exts = nil }) }},
	{"extension: SCT list and policies", func(g *generator) {
		g.vary("all usual ones", g.rich)
	}},
	{"extension: poison", func(g *generator) {
		g.vary("precertificate", func(s *spec) { s.add("1.3.6.1.4.1.11129.2.4.3", yes, null) })
	}},
	{"extension: critical policies", func(g *generator) {
		g.vary("policies", func(s *spec) { s.add("2.5.29.32", yes, seq(seq(oid("2.23.140.1.2.1")))) })
	}},
	{"extension: policy constraints", func(g *generator) {
		g.below("requireExplicitPolicy", func(s *spec) { s.add("2.5.29.36", yes, seq(tlv(0x80, []byte{0}))) })
	}},
	{"extension: malformed key identifier", func(g *generator) {
		id, v := pick(g, "2.5.29.14", "2.5.29.35", "1.3.6.1.5.5.7.1.1", "2.5.29.31", "2.5.29.32"),
			pick(g, null, []byte{}, []byte("x"))
		g.vary(fmt.Sprintf("%s %x", id, v), func(s *spec) { s.add(id, nil, v) })
	}},
	{"extension: large", func(g *generator) {
		n := pick(g, 20, 60, 90)
		g.vary(fmt.Sprintf("%d KB", n), func(s *spec) { s.add(extUnknown, nil, tlv(tagOctets, make([]byte, n*1000))) })
	}},
	{"extension: too large for most clients", func(g *generator) {
		n := pick(g, 105, 150, 230)
		g.vary(fmt.Sprintf("%d KB", n), func(s *spec) { s.add(extUnknown, nil, tlv(tagOctets, make([]byte, n*1000))) })
	}},
	{"extension: too large for every client", func(g *generator) {
		n := pick(g, 270, 500)
		g.vary(fmt.Sprintf("%d KB", n), func(s *spec) { s.add(extUnknown, nil, tlv(tagOctets, make([]byte, n*1000))) })
	}},

	// The leaf as a CA.
	{"basicConstraints: CA", func(g *generator) {
		g.vary("CA:TRUE", func(s *spec) { s.add(extConstraints, yes, basic(-1)) })
	}},
	{"basicConstraints: no CA", func(g *generator) {
		g.vary("CA:FALSE", func(s *spec) { s.add(extConstraints, pick(g, yes, nil), seq()) })
	}},
	{"basicConstraints: odd", func(g *generator) {
		v := pick(g, seq(no), seq(small(0)), seq(yes, small(-1)), []byte{},
			seq(yes, tlv(tagInt, []byte{1, 0, 0, 0, 0, 0, 0, 0, 0})), null)
		g.vary(fmt.Sprintf("%x", v), func(s *spec) { s.add(extConstraints, yes, v) })
	}},

	// Fields.
	{"version: 1", func(g *generator) {
		g.vary("without extensions", func(s *spec) { s.version, s.noExts = nil, true })
	}},
	{"version: 1 with extensions", func(g *generator) {
		g.vary("with", func(s *spec) { s.version = pick(g, nil, v1) })
	}},
	{"version: 2", func(g *generator) { g.vary("with extensions", func(s *spec) { s.version = v2 }) }},
	{"version: 4", func(g *generator) {
		g.vary("v4", func(s *spec) { s.version = tlv(0xa0, small(pick[int64](g, 3, 9, -1))) })
	}},
	{"version: of the CA", func(g *generator) {
		v := pick(g, nil, v1, v2)
		g.below(fmt.Sprintf("%x", v), func(s *spec) { s.version = v; s.noExts = g.IntN(2) == 0 })
	}},
	{"version: 1 of the CA, with extensions", func(g *generator) { g.below("v1", func(s *spec) { s.version = nil }) }},
	{"serial: odd", func(g *generator) {
		v := pick(g, small(0), small(-5), tlv(tagInt, bytes.Repeat([]byte{0x7f}, 20)),
			tlv(tagInt, bytes.Repeat([]byte{0x7f}, 21)), tlv(tagInt, bytes.Repeat([]byte{0x7f}, 200)))
		g.vary(fmt.Sprintf("%.20x, %d bytes", v, len(v)-2), func(s *spec) { s.serial = v })
	}},
	{"serial: negative", func(g *generator) { g.vary("-5", func(s *spec) { s.serial = small(-5) }) }},
	{"serial: not minimal", func(g *generator) {
		g.vary("0000 or none", func(s *spec) {
			s.serial = tlv(tagInt, pick(g, []byte{0, 0, 7}, []byte{0, 7}, []byte{}))
		})
	}},
	{"validity: as GeneralizedTime", func(g *generator) {
		g.vary("before 2050", func(s *spec) {
			s.notBefore, s.notAfter = generalTime(g.now.Add(-day)), generalTime(g.now.Add(day))
		})
	}},
	{"validity: far away", func(g *generator) {
		g.vary("9999", func(s *spec) { s.notAfter = text(tagTime, "99991231235959Z") })
	}},
	{"validity: without seconds", func(g *generator) {
		g.vary("UTCTime", func(s *spec) { s.notBefore = text(tagUTCTime, g.now.Add(-day).UTC().Format("0601021504Z")) })
	}},
	{"validity: time zone", func(g *generator) {
		zone := pick(g, "+0000", "+0100", "-0500")
		g.vary(zone, func(s *spec) {
			s.notBefore = text(tagUTCTime, g.now.Add(-day).UTC().Format("060102150405")+zone)
		})
	}},
	{"validity: time zone and fractions in GeneralizedTime", func(g *generator) {
		end := pick(g, "+0100", ".5Z", "")
		g.vary(end, func(s *spec) { s.notAfter = text(tagTime, g.now.Add(day).UTC().Format("20060102150405")+end) })
	}},
	{"validity: no date", func(g *generator) {
		v := pick(g, text(tagUTCTime, "261332000000Z"), text(tagUTCTime, ""), text(tagTime, "20260230000000Z"),
			small(0), text(tagUTCTime, "260101235960Z"))
		g.vary(fmt.Sprintf("%q", v), func(s *spec) { s.notBefore = v })
	}},
	{"validity: expired", func(g *generator) {
		g.vary("an hour ago", func(s *spec) { s.notAfter = utcTime(g.now.Add(-time.Hour)) })
	}},
	{"validity: not yet", func(g *generator) {
		g.vary("in two hours", func(s *spec) { s.notBefore = utcTime(g.now.Add(2 * time.Hour)) })
	}},
	{"validity: ends before it begins", func(g *generator) {
		g.vary("exchanged", func(s *spec) { s.notBefore, s.notAfter = s.notAfter, s.notBefore })
	}},
	{"validity: expired CA", func(g *generator) {
		g.below("an hour ago", func(s *spec) { s.notAfter = utcTime(g.now.Add(-time.Hour)) })
	}},
	{"validity: CA not yet", func(g *generator) {
		g.below("in two hours", func(s *spec) { s.notBefore = utcTime(g.now.Add(2 * time.Hour)) })
	}},
	{"unique identifiers", func(g *generator) {
		g.vary("both", func(s *spec) { s.ids = append(tlv(0x81, []byte{0, 1}), tlv(0x82, []byte{0, 2})...) })
	}},
	{"unique identifiers: malformed", func(g *generator) {
		v := pick(g, tlv(0x81), tlv(0x81, []byte{9, 1}), tlv(0xa1, bits([]byte{1})),
			append(tlv(0x82, []byte{0, 1}), tlv(0x81, []byte{0, 1})...))
		g.vary(fmt.Sprintf("%x", v), func(s *spec) { s.ids = v })
	}},
	{"unique identifiers: malformed in the CA", func(g *generator) {
		g.below("too many unused bits", func(s *spec) {
			s.ids = pick(g, tlv(0x81), tlv(0x81, []byte{9, 1}), tlv(0x82, []byte{3, 0xff}))
		})
	}},
	{"trailing fields", func(g *generator) { g.vary("NULL in the TBSCertificate", func(s *spec) { s.tail = null }) }},
	{"trailing fields: CA", func(g *generator) {
		g.below("NULL in the TBSCertificate", func(s *spec) { s.tail = null })
	}},
	{"trailing data", func(g *generator) {
		host, k := g.next(), p256()
		der := g.leaf(g.inter, k, host).sign(g.inter.key)
		g.add("behind the certificate", host, k, append(der, null...), g.inter.der)
	}},
	{"trailing data: CA", func(g *generator) {
		g.under("behind the CA", g.inter, p256(), nil, append(bytes.Clone(g.inter.der), 0))
	}},
	{"BER length", func(g *generator) {
		host, k := g.next(), p256()
		der := g.leaf(g.inter, k, host).sign(g.inter.key)
		n := len(der) - 4
		g.add("longer than needed", host, k,
			append([]byte{tagSeq, 0x83, 0, byte(n >> 8), byte(n)}, der[4:]...), g.inter.der)
	}},
	{"BER indefinite length", func(g *generator) {
		host, k := g.next(), p256()
		der := g.leaf(g.inter, k, host).sign(g.inter.key)
		g.add("0x80", host, k, append(append([]byte{tagSeq, 0x80}, der[4:]...), 0, 0), g.inter.der)
	}},
	{"cut short", func(g *generator) {
		host, k := g.next(), p256()
		der := g.leaf(g.inter, k, host).sign(g.inter.key)
		g.add("within", host, k, der[:len(der)-1-g.IntN(300)], g.inter.der)
	}},
	{"a garbled byte", func(g *generator) {
		host, k := g.next(), p256()
		der := g.leaf(g.inter, k, host).sign(g.inter.key)
		at := g.IntN(len(der))
		der[at] ^= byte(1 + g.IntN(255))
		g.add(fmt.Sprint("at ", at), host, k, der, g.inter.der)
	}},
	{"a garbled byte, signed", func(g *generator) {
		for range 8 {
			at, with := g.IntN(1000), byte(1<<g.IntN(8))
			g.vary(fmt.Sprintf("at %d, %#x", at, with), func(s *spec) {
				g.rich(s)
				s.mangle = func(tbs []byte) { tbs[at%len(tbs)] ^= with }
			})
		}
	}},
	{"a garbled byte in the CA, signed", func(g *generator) {
		for range 4 {
			at, with := g.IntN(1000), byte(1<<g.IntN(8))
			g.below(fmt.Sprintf("at %d, %#x", at, with), func(s *spec) {
				g.rich(s)
				s.mangle = func(tbs []byte) { tbs[at%len(tbs)] ^= with }
			})
		}
	}},

	// Signatures.
	{"signature: of the leaf", func(g *generator) {
		a := pick(g, "ecdsa-sha384", "ecdsa-sha512", "ecdsa-sha256")
		g.vary(a, func(s *spec) { s.algorithm = a })
	}},
	{"signature: SHA-1", func(g *generator) { g.vary("ECDSA", func(s *spec) { s.algorithm = "ecdsa-sha1" }) }},
	{"signature: by an RSA CA", func(g *generator) {
		for _, a := range some(g, "rsa-sha1", "rsa-md5", "rsa-sha256", "rsa-sha512", "rsa-pss") {
			g.under(a, g.rsaCA(), p256(), func(s *spec) { s.algorithm = a }, g.rsaCA().der)
		}
	}},
	{"signature: MD5 or SHA-1 without the CA", func(g *generator) {
		a := pick(g, "rsa-sha1", "rsa-md5")
		g.under(a, g.rsaCA(), p256(), func(s *spec) { s.algorithm = a }).trust = pemOf(g.rsaCA().der)
	}},
	{"signature: SHA-1 of the CA", func(g *generator) {
		g.below("ECDSA", func(s *spec) { s.algorithm = "ecdsa-sha1" })
	}},
	{"signature: by an Ed25519 CA", func(g *generator) {
		ca := g.inter.newCA(edKey(), "Corpus Ed CA", g.now, nil)
		g.under("Ed25519", ca, p256(), nil, ca.der, g.inter.der)
	}},
	{"signature: wrong", func(g *generator) {
		host, k := g.next(), p256()
		g.add("by another key", host, k, g.leaf(g.inter, k, host).sign(p256()), g.inter.der)
	}},
	{"signature: by a small RSA CA", func(g *generator) {
		small := g.inter.newCA(g.keys.get("ca1024", func() key { return rsaKey(1024) }), "Corpus small CA", g.now, nil)
		g.under("RSA-1024", small, p256(), nil, small.der, g.inter.der)
	}},

	// Chains.
	{"chain: usual", func(g *generator) { g.vary("leaf and CA", nil) }},
	{"chain: with the root", func(g *generator) { g.under("root", g.inter, p256(), nil, g.inter.der, g.root.der) }},
	{"chain: leaf of the root", func(g *generator) { g.under("no CA between", g.root, p256(), nil) }},
	{"chain: leaf alone", func(g *generator) {
		g.under("its issuer is trusted", g.inter, p256(), nil).trust = pemOf(g.inter.der)
	}},
	{"chain: self-signed", func(g *generator) {
		k := p256()
		self := authority{key: k}
		host := g.next()
		self.name = commonName(host)
		der := g.leaf(self, k, host).sign(k)
		g.add("trusted as it is", host, k, der).trust = pemOf(der)
	}},
	{"chain: self-signed CA", func(g *generator) {
		k := p256()
		self := authority{key: k}
		host := g.next()
		self.name = commonName(host)
		s := g.leaf(self, k, host)
		s.add(extConstraints, yes, basic(-1))
		s.set(extKeyUsage, yes, usage(0, 5))
		der := s.sign(k)
		g.add("trusted as it is", host, k, der).trust = pemOf(der)
	}},
	{"chain: CA before the leaf", func(g *generator) {
		host, k := g.next(), p256()
		g.add("exchanged", host, k, g.inter.der, g.leaf(g.inter, k, host).sign(g.inter.key))
	}},
	{"chain: upper links exchanged", func(g *generator) {
		ca := g.inter.newCA(p256(), "Corpus Sub CA", g.now, nil)
		g.under("three", ca, p256(), nil, g.inter.der, ca.der)
	}},
	{"chain: a link missing in the middle", func(g *generator) {
		ca := g.inter.newCA(p256(), "Corpus Sub CA", g.now, nil)
		g.under("root behind", ca, p256(), nil, ca.der, g.root.der)
	}},
	{"chain: the leaf twice", func(g *generator) {
		host, k := g.next(), p256()
		der := g.leaf(g.inter, k, host).sign(g.inter.key)
		g.add("twice", host, k, der, der, g.inter.der)
	}},
	{"chain: the CA twice", func(g *generator) { g.under("twice", g.inter, p256(), nil, g.inter.der, g.inter.der) }},
	{"chain: an unrelated certificate", func(g *generator) {
		other := authority{}.newCA(p256(), "Other CA", g.now, nil)
		g.under("behind", g.inter, p256(), nil, g.inter.der, other.der)
	}},
	{"chain: garbage behind", func(g *generator) {
		g.under("no certificate", g.inter, p256(), nil, g.inter.der, []byte("garbage"))
	}},
	{"chain: cross-signed", func(g *generator) {
		other := authority{}.newCA(p256(), "Old Root", g.now, nil)
		cross := other.newCA(g.root.key, fmt.Sprintf("Corpus Root %d", g.seed), g.now, nil)
		s := g.under("root by an older root", g.inter, p256(), nil, g.inter.der, cross.der)
		if g.IntN(2) == 0 {
			s.trust = pemOf(other.der)
		}
	}},
	{"chain: long", func(g *generator) { g.long(pick(g, 8, 11, 20)) }},
	{"chain: very long", func(g *generator) { g.long(pick(g, 60, 95)) }},
	{"chain: about too long", func(g *generator) { g.long(pick(g, 97, 98, 99, 100, 101, 102)) }},
	{"chain: root with odd things", func(g *generator) {
		note := pick(g, "clientAuth", "critical", "path length", "expired", "version 1", "SHA-1")
		root := authority{}.newCA(p256(), "Corpus odd Root", g.now, func(s *spec) {
			switch note {
			case "clientAuth":
				s.add(extEKU, nil, purposes(purposeClient))
			case "critical":
				s.add(extUnknown, yes, null)
			case "path length":
				s.set(extConstraints, yes, basic(0))
			case "expired":
				s.notAfter = utcTime(g.now.Add(-time.Hour))
			case "version 1":
				s.version, s.noExts = nil, true
			case "SHA-1":
				s.algorithm = "ecdsa-sha1"
			}
		})
		ca := root.newCA(p256(), "Corpus CA of the odd Root", g.now, nil)
		trust := root.der
		if note == "expired" { // clients have a newer one
			trust = authority{}.newCA(root.key, "Corpus odd Root", g.now, nil).der
		}
		g.under(note, ca, p256(), nil, ca.der, root.der).trust = pemOf(trust)
	}},
	{"chain: expired cross-certificate", func(g *generator) {
		other := authority{}.newCA(p256(), "Old Root", g.now, nil)
		cross := other.newCA(g.root.key, fmt.Sprintf("Corpus Root %d", g.seed), g.now, func(s *spec) {
			s.notAfter = utcTime(g.now.Add(-time.Hour))
		})
		g.under("root by an older root", g.inter, p256(), nil, g.inter.der, cross.der)
	}},
	{"chain: too long", func(g *generator) { g.long(pick(g, 105, 130)) }},
	{"chain: path length", func(g *generator) {
		limit := g.IntN(2)
		first := g.inter.newCA(p256(), "Corpus limited CA", g.now, func(s *spec) {
			s.set(extConstraints, yes, basic(limit))
		})
		second := first.newCA(p256(), "Corpus CA below", g.now, nil)
		g.under(fmt.Sprintf("%d, one below", limit), second, p256(), nil, second.der, first.der, g.inter.der)
	}},
	{"chain: path length exceeded", func(g *generator) {
		first := g.inter.newCA(p256(), "Corpus limited CA", g.now, func(s *spec) {
			s.set(extConstraints, yes, basic(0))
		})
		second := first.newCA(p256(), "Corpus CA below", g.now, nil)
		g.under("0, one below", second, p256(), nil, second.der, first.der, g.inter.der)
	}},
	{"chain: path length kept", func(g *generator) {
		g.below("0", func(s *spec) { s.set(extConstraints, yes, basic(0)) })
	}},
	{"chain: path length, self-issued below", func(g *generator) {
		first := g.inter.newCA(p256(), "Corpus limited CA", g.now, func(s *spec) {
			s.set(extConstraints, yes, basic(0))
			s.add("2.5.29.14", nil, tlv(tagOctets, []byte("old")))
			s.add("2.5.29.35", nil, seq(tlv(0x80, []byte("above"))))
		})
		again := first.newCA(p256(), "Corpus limited CA", g.now, func(s *spec) {
			s.add("2.5.29.14", nil, tlv(tagOctets, []byte("new")))
			s.add("2.5.29.35", nil, seq(tlv(0x80, []byte("old"))))
		})
		g.under("rollover", again, p256(), nil, again.der, first.der, g.inter.der)
	}},
	{"chain: issuer is no CA", func(g *generator) {
		g.below("CA:FALSE", func(s *spec) { s.set(extConstraints, yes, seq()) })
	}},
	{"chain: issuer without basicConstraints", func(g *generator) {
		g.below("left out", func(s *spec) { s.drop(extConstraints) })
	}},
	{"chain: issuer of version 1", func(g *generator) {
		g.below("v1", func(s *spec) { s.version, s.noExts = nil, true })
	}},
	{"chain: issuer may not sign", func(g *generator) {
		g.below("no keyCertSign", func(s *spec) { s.set(extKeyUsage, yes, usage(0, 6)) })
	}},
	{"chain: issuer without keyUsage", func(g *generator) {
		g.below("left out", func(s *spec) { s.drop(extKeyUsage) })
	}},
	{"chain: issuer of another name", func(g *generator) {
		g.under("same key", g.inter, p256(), func(s *spec) { s.issuer = commonName("Somebody else") }, g.inter.der)
	}},
	{"chain: issuer's name in another encoding", func(g *generator) {
		g.under("PrintableString", g.inter, p256(), func(s *spec) {
			s.issuer = name(attribute(oidCN, text(tagPrintable, fmt.Sprintf("Corpus CA %d", g.seed))))
		}, g.inter.der)
	}},
	{"chain: key identifier of another", func(g *generator) {
		g.under("AKI", g.inter, p256(),
			func(s *spec) { s.add("2.5.29.35", nil, seq(tlv(0x80, []byte("other")))) }, g.inter.der)
	}},
	{"chain: issuer with an empty name", func(g *generator) {
		g.below("no subject", func(s *spec) { s.subject = name() })
	}},
	{"chain: CA on a curve unknown to Go", func(g *generator) {
		k := g.keys.get("k1", func() key {
			k, err := foreign("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:secp256k1")
			g.err = err
			return k
		})
		s := g.inter.spec(k, g.now)
		s.subject = commonName("Corpus k1")
		s.add(extConstraints, yes, basic(-1))
		g.under("behind, unrelated", g.inter, p256(), nil, g.inter.der, s.sign(g.inter.key))
	}},

	// Name constraints.
	{"nameConstraints: DNS", func(g *generator) {
		tag, n := pick[byte](g, 0xa0, 0xa1), pick(g, "corpus.test", ".corpus.test", "test", "other.test", "")
		g.below(fmt.Sprintf("%#x %q", tag, n), func(s *spec) { s.add(extNames, yes, seq(tlv(tag, seq(dns(n))))) })
	}},
	{"nameConstraints: excluded", func(g *generator) {
		n := pick(g, "corpus.test", "test", "Corpus.TEST", ".test")
		g.below(n, func(s *spec) { s.add(extNames, pick(g, yes, nil), seq(tlv(0xa1, seq(dns(n))))) })
	}},
	{"nameConstraints: not permitted", func(g *generator) {
		n := pick(g, "other.test", "rpus.test", "example")
		g.below(n, func(s *spec) { s.add(extNames, yes, seq(tlv(0xa0, seq(dns(n))))) })
	}},
	{"nameConstraints: permitted", func(g *generator) {
		n := pick(g, "corpus.test", "test", ".corpus.test")
		g.below(n, func(s *spec) { s.add(extNames, yes, seq(tlv(0xa0, seq(dns("other.test")), seq(dns(n))))) })
	}},
	{"nameConstraints: address", func(g *generator) {
		host, k := g.next(), p256()
		out := g.IntN(2) == 0
		ca := g.inter.newCA(p256(), "Corpus IP CA", g.now, func(s *spec) {
			n := []byte{127, 0, 0, 0, 255, 0, 0, 0}
			if out {
				n[0] = 10
			}
			s.add(extNames, yes, seq(tlv(0xa0, seq(tlv(0x87, n)))))
		})
		s := g.leaf(ca, k, host)
		s.set(extAltName, nil, seq(dns(host), tlv(0x87, []byte{127, 0, 0, 1})))
		g.add(fmt.Sprint("outside ", out), host, k, s.sign(ca.key), ca.der, g.inter.der)
	}},
	{"nameConstraints: mail, URI and directory", func(g *generator) {
		v := pick(g, tlv(0x81, []byte("other.test")), tlv(0x86, []byte("other.test")), tlv(0xa4, commonName("other")))
		tag := pick[byte](g, 0xa0, 0xa1)
		host, k := g.next(), p256()
		ca := g.inter.newCA(p256(), "Corpus NC CA", g.now, func(s *spec) {
			s.add(extNames, pick(g, yes, nil), seq(tlv(tag, seq(v))))
		})
		s := g.leaf(ca, k, host)
		s.set(extAltName, nil, seq(dns(host), tlv(0x81, []byte("a@corpus.test")),
			tlv(0x86, []byte("spiffe://corpus.test/x"))))
		g.add(fmt.Sprintf("%#x tag %#x", tag, v[0]), host, k, s.sign(ca.key), ca.der, g.inter.der)
	}},
	{"nameConstraints: malformed", func(g *generator) {
		v := pick(g, seq(), null, seq(tlv(0xa0)),
			seq(tlv(0xa0, seq(tlv(0x87, []byte{1, 2})))), seq(tlv(0xa0, seq(dns("\xff")))))
		g.below(fmt.Sprintf("%x", v), func(s *spec) { s.add(extNames, yes, v) })
	}},
	{"nameConstraints: of the leaf", func(g *generator) {
		g.vary("other.test", func(s *spec) { s.add(extNames, yes, seq(tlv(0xa0, seq(dns("other.test"))))) })
	}},
	{"nameConstraints: of the root", func(g *generator) {
		root := authority{}.newCA(p256(), "Corpus limited Root", g.now, func(s *spec) {
			s.add(extNames, yes, seq(tlv(0xa0, seq(dns("other.test")))))
		})
		g.under("sent with it", root, p256(), nil, root.der).trust = pemOf(root.der)
	}},

	// Everything that is allowed, at random.
	{"mixture", func(g *generator) {
		for range 8 {
			g.mixture()
		}
	}},
}

// rich adds the extensions that certificates of public CAs have.
func (g *generator) rich(s *spec) {
	s.add("1.3.6.1.4.1.11129.2.4.2", nil, tlv(tagOctets, []byte{0, 3, 0, 1, 7}))
	s.add("2.5.29.32", nil, seq(seq(oid("2.23.140.1.2.1"))))
	s.add("2.5.29.14", nil, tlv(tagOctets, []byte("12345678901234567890")))
	s.add("1.3.6.1.5.5.7.1.1", nil, seq(seq(oid("1.3.6.1.5.5.7.48.1"), tlv(0x86, []byte("http://ocsp.corpus.test")))))
	s.add("2.5.29.31", nil, seq(seq(tlv(0xa0, tlv(0xa0, tlv(0x86, []byte("http://crl.corpus.test")))))))
}

func (g *generator) rsa(size, primes int, e int64) numbers {
	if g.keys.rsa == nil {
		g.keys.rsa = map[string]numbers{}
	}
	what := fmt.Sprint(size, primes, e)
	k, ok := g.keys.rsa[what]
	if !ok {
		k = rsaNumbers(size, primes, e)
		g.keys.rsa[what] = k
	}
	return k
}

func (g *generator) rsaCA() authority {
	k := g.keys.get("ca2048", func() key { return rsaKey(2048) })
	return g.root.newCA(k, "Corpus RSA CA", g.now, nil)
}

// foreign adds a leaf for a key of openssl's.
func (g *generator) foreign(note string, arguments ...string) {
	k := g.keys.get(words(arguments), func() key {
		k, err := foreign(arguments...)
		g.err = err
		return k
	})
	g.withKey(note, k)
}

// mixed adds a leaf with more alternative names.
func (g *generator) mixed(note string, more ...[]byte) {
	g.named(note, func(s *spec, host string) { s.set(extAltName, nil, seq(append([][]byte{dns(host)}, more...)...)) })
}

// long adds a leaf below so many CAs.
func (g *generator) long(n int) {
	ca := g.root
	var above [][]byte
	for i := range n {
		ca = ca.newCA(p256(), fmt.Sprintf("Corpus CA %d of %d", i, n), g.now, nil)
		above = append([][]byte{ca.der}, above...)
	}
	g.under(fmt.Sprint(n), ca, p256(), nil, above...)
}

// mixture adds a leaf with random choices that are all usual.
func (g *generator) mixture() {
	host := g.next()
	kinds := map[string]func() key{
		"P-256": p256, "P-384": func() key { return ecKey(elliptic.P384()) },
		"P-521":    func() key { return ecKey(elliptic.P521()) },
		"RSA-2048": func() key { return g.rsa(2048, 2, 65537).key() },
		"RSA-3072": func() key { return g.rsa(3072, 2, 65537).key() },
	}
	kind := pick(g, "P-256", "P-384", "P-521", "RSA-2048", "RSA-3072")
	k := kinds[kind]()
	ca, above := g.inter, [][]byte{g.inter.der}
	for range g.IntN(3) {
		ca = ca.newCA(p256(), fmt.Sprintf("Corpus CA %d.%d.%d", g.seed, g.made, len(above)), g.now, nil)
		above = append([][]byte{ca.der}, above...)
	}
	s := g.leaf(ca, k, host)
	set := append(some(g, 1, 2, 4), 0)
	s.set(extKeyUsage, pick(g, yes, nil, no), usage(set...))
	s.set(extEKU, pick(g, yes, nil), purposes(append(some(g, purposeClient, purposeCode), purposeServer)...))
	s.subject = pick(g, s.subject, name(),
		name(attribute(oidOrg, bmp("Körps")), attribute(oidCN, text(tagPrintable, "x"))),
		name(attribute(oidEmail, text(tagIA5, "a@corpus.test"))))
	if g.IntN(2) == 0 {
		s.add(extUnknown, nil, []byte("anything"))
	}
	g.add(fmt.Sprintf("%s, keyUsage %s, %d CAs", kind, words(set), len(above)), host, k,
		append([][]byte{s.sign(ca.key)}, above...)...)
}
