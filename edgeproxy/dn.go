package edgeproxy

import (
	"encoding/asn1"
	"encoding/binary"
	"fmt"
	"strings"
	"unicode/utf16"
)

// attributeNames are the types of attributes that BoringSSL knows by name, of those that occur in
// subjects.
var attributeNames = map[string]string{
	"2.5.4.3": "CN", "2.5.4.4": "SN", "2.5.4.5": "serialNumber", "2.5.4.6": "C", "2.5.4.7": "L", "2.5.4.8": "ST",
	"2.5.4.9": "street", "2.5.4.10": "O", "2.5.4.11": "OU", "2.5.4.12": "title", "2.5.4.13": "description",
	"2.5.4.15": "businessCategory", "2.5.4.16": "postalAddress", "2.5.4.17": "postalCode",
	"2.5.4.18": "postOfficeBox", "2.5.4.19": "physicalDeliveryOfficeName", "2.5.4.20": "telephoneNumber",
	"2.5.4.41": "name", "2.5.4.42": "GN", "2.5.4.43": "initials", "2.5.4.44": "generationQualifier",
	"2.5.4.45": "x500UniqueIdentifier", "2.5.4.46": "dnQualifier", "2.5.4.65": "pseudonym", "2.5.4.72": "role",
	"1.2.840.113549.1.9.1": "emailAddress", "1.2.840.113549.1.9.2": "unstructuredName",
	"1.2.840.113549.1.9.8":       "unstructuredAddress",
	"0.9.2342.19200300.100.1.1":  "UID",
	"0.9.2342.19200300.100.1.3":  "mail",
	"0.9.2342.19200300.100.1.25": "DC",
}

// distinguishedName writes a subject (DER) as BoringSSL does for Envoy (XN_FLAG_RFC2253). The last
// attribute comes first. An attribute whose type has no name here is the hexadecimal of its DER.
// Everything that is not ASCII is escaped, byte by byte.
//
// Source: RFC 2253, section 2
func distinguishedName(der []byte) (out string) {
	var sets []asn1.RawValue
	if _, err := asn1.Unmarshal(der, &sets); err != nil {
		return ""
	}
	for _, set := range sets {
		for rest, separator := set.Bytes, ","; len(rest) > 0; separator = "+" {
			var a struct {
				Type  asn1.ObjectIdentifier
				Value asn1.RawValue
			}
			var err error
			if rest, err = asn1.Unmarshal(rest, &a); err != nil {
				return out
			}
			if out == "" {
				separator = ""
			}
			out = attributeText(a.Type, a.Value) + separator + out
		}
	}
	return out
}

// attributeText writes one attribute.
func attributeText(id asn1.ObjectIdentifier, value asn1.RawValue) string {
	name, known := attributeNames[id.String()]
	if !known {
		return fmt.Sprintf("%s=#%X", id, value.FullBytes)
	}
	text, ok := stringOf(value)
	if !ok {
		return fmt.Sprintf("%s=#%X", name, value.FullBytes)
	}
	return name + "=" + escaped(text)
}

// stringOf returns the text of a string. ok is false if it is of another type.
func stringOf(value asn1.RawValue) (text string, ok bool) {
	switch value.Tag {
	case asn1.TagUTF8String, asn1.TagPrintableString, asn1.TagIA5String, asn1.TagNumericString:
		return string(value.Bytes), true
	case asn1.TagT61String: // it is read as Latin-1
		runes := make([]rune, len(value.Bytes))
		for i, b := range value.Bytes {
			runes[i] = rune(b)
		}
		return string(runes), true
	case asn1.TagBMPString:
		units := make([]uint16, len(value.Bytes)/2)
		for i := range units {
			units[i] = binary.BigEndian.Uint16(value.Bytes[2*i:])
		}
		return string(utf16.Decode(units)), true
	}
	return "", false
}

// escaped escapes the text of an attribute.
func escaped(text string) string {
	var b strings.Builder
	for i := range len(text) {
		switch c := text[i]; {
		case c < ' ' || c >= 0x7f:
			fmt.Fprintf(&b, `\%02X`, c)
			continue
		case strings.IndexByte(`,+"\<>;`, c) >= 0, c == '#' && i == 0, c == ' ' && (i == 0 || i == len(text)-1):
			b.WriteByte('\\')
		}
		b.WriteByte(text[i])
	}
	return b.String()
}
