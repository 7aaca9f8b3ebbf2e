package corpus

import (
	"encoding/asn1"
	"math/big"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
)

// The tags of DER that certificates are made of (X.690, section 8).
const (
	tagBool      = 0x01
	tagInt       = 0x02
	tagBits      = 0x03
	tagOctets    = 0x04
	tagUTF8      = 0x0c
	tagPrintable = 0x13
	tagT61       = 0x14
	tagIA5       = 0x16
	tagUTCTime   = 0x17
	tagTime      = 0x18
	tagVisible   = 0x1a
	tagUniversal = 0x1c
	tagBMP       = 0x1e
	tagSeq       = 0x30
	tagSet       = 0x31
)

// tlv writes one element. It writes whatever it is given, also what is no DER.
func tlv(tag byte, parts ...[]byte) []byte {
	var body []byte
	for _, p := range parts {
		body = append(body, p...)
	}
	return append(head(tag, len(body)), body...)
}

func head(tag byte, n int) []byte {
	if n < 0x80 {
		return []byte{tag, byte(n)}
	}
	size := big.NewInt(int64(n)).Bytes()
	return append([]byte{tag, 0x80 | byte(len(size))}, size...)
}

func seq(parts ...[]byte) []byte { return tlv(tagSeq, parts...) }

func text(tag byte, s string) []byte { return tlv(tag, []byte(s)) }

func bmp(s string) []byte {
	var b []byte
	for _, u := range utf16.Encode([]rune(s)) {
		b = append(b, byte(u>>8), byte(u))
	}
	return tlv(tagBMP, b)
}

func oid(dotted string) []byte {
	var id asn1.ObjectIdentifier
	for _, part := range strings.Split(dotted, ".") {
		n, err := strconv.Atoi(part)
		if err != nil {
			panic(err)
		}
		id = append(id, n)
	}
	return must(asn1.Marshal(id))
}

func number(n *big.Int) []byte { return must(asn1.Marshal(n)) }

func small(n int64) []byte { return number(big.NewInt(n)) }

func bits(b []byte) []byte { return tlv(tagBits, []byte{0}, b) }

var (
	yes  = []byte{tagBool, 1, 0xff}
	no   = []byte{tagBool, 1, 0}
	null = []byte{5, 0}
)

func utcTime(t time.Time) []byte { return text(tagUTCTime, t.UTC().Format("060102150405Z")) }

func generalTime(t time.Time) []byte { return text(tagTime, t.UTC().Format("20060102150405Z")) }

// name writes a Name of attributes, each in a set of its own.
func name(attributes ...[]byte) []byte {
	var sets [][]byte
	for _, a := range attributes {
		sets = append(sets, tlv(tagSet, a))
	}
	return seq(sets...)
}

func attribute(id string, value []byte) []byte { return seq(oid(id), value) }

const (
	oidCN    = "2.5.4.3"
	oidOrg   = "2.5.4.10"
	oidEmail = "1.2.840.113549.1.9.1"
)

func commonName(s string) []byte { return name(attribute(oidCN, text(tagUTF8, s))) }

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
