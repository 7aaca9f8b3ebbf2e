package keysource

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
)

// kind is what the label of a PEM block says of its content.
type kind uint8

const (
	unknown kind = iota
	certificate
	otherCertificate // a certificate under one of OpenSSL's other labels
	privateKey
	harmless  // what openssl writes beside keys
	unneeded  // what Envoy has no use for, and what is left out with a note
	container // what holds certificates in a form that must be unpacked first
)

var kinds = map[string]kind{
	"CERTIFICATE": certificate,

	// X509 CERTIFICATE is OpenSSL's older label. A TRUSTED CERTIFICATE has its user's trust
	// settings after it (openssl x509 -trustout).
	"X509 CERTIFICATE":    otherCertificate,
	"TRUSTED CERTIFICATE": otherCertificate,

	"PRIVATE KEY":           privateKey,
	"RSA PRIVATE KEY":       privateKey,
	"EC PRIVATE KEY":        privateKey,
	"ENCRYPTED PRIVATE KEY": privateKey,
	"DSA PRIVATE KEY":       privateKey,
	"ANY PRIVATE KEY":       privateKey,

	"EC PARAMETERS": harmless,

	"DH PARAMETERS":           unneeded,
	"X9.42 DH PARAMETERS":     unneeded,
	"DSA PARAMETERS":          unneeded,
	"PUBLIC KEY":              unneeded,
	"RSA PUBLIC KEY":          unneeded,
	"CERTIFICATE REQUEST":     unneeded,
	"NEW CERTIFICATE REQUEST": unneeded,
	"X509 CRL":                unneeded,

	"PKCS7":               container,
	"PKCS #7 SIGNED DATA": container,
	"CMS":                 container,
}

func kindOf(label string) kind { return kinds[label] }

// relabelled returns the DER of a certificate under one of OpenSSL's other labels, and a note.
func relabelled(block *pem.Block) (der []byte, note string) {
	der, note = block.Bytes, fmt.Sprintf("the label %s is read as CERTIFICATE", block.Type)
	_, _, after := element(der)
	if block.Type == "TRUSTED CERTIFICATE" && len(after) > 0 {
		return der[:len(der)-len(after)], note + ", and its trust settings are left out"
	}
	return der, note
}

func isCertificate(der []byte) bool {
	_, err := x509.ParseCertificate(der)
	return err == nil
}

// leftOut returns a note of a block that is neither a certificate nor a private key. It refuses a
// block that may hold what is needed.
func leftOut(i int, block *pem.Block) (note string, err error) {
	switch kindOf(block.Type) {
	case harmless:
		return fmt.Sprintf("block %d is %s: it is left out", i, block.Type), nil
	case unneeded:
		return fmt.Sprintf("block %d is a %s: it is left out", i, block.Type), nil
	case container:
		return "", fmt.Errorf("block %d is %s, which is PKCS#7: take the certificates out of it (openssl pkcs7 "+
			"-in FILE -print_certs)", i, block.Type)
	}
	if block.Type == "OPENSSH PRIVATE KEY" {
		return "", fmt.Errorf("block %d is %q, OpenSSH's own form: convert it (ssh-keygen -p -m PKCS8 -f FILE)", i,
			block.Type)
	}
	return "", fmt.Errorf("block %d has the unknown label %.100q: remove it, or label it CERTIFICATE or PRIVATE KEY",
		i, block.Type)
}

// isDER reports whether b is a sequence in DER or BER, as keys and certificates are. The shortest
// keys have a length of one byte.
func isDER(b []byte) bool {
	return len(b) > 4 && b[0] == 0x30 && (b[1] >= 0x80 && b[1] <= 0x83 || int(b[1]) == len(b)-2)
}

// signedData begins what PKCS#7 holds (RFC 2315, section 14). Windows labels it CERTIFICATE.
var signedData = []byte{6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 2}

// isPKCS7 reports whether der is PKCS#7.
func isPKCS7(der []byte) bool { return bytes.Contains(der[:min(len(der), 20)], signedData) }

// instead says what is there in place of a block that is missing. It begins with a colon, or is
// empty.
func instead(b []byte, labels []string) string {
	switch {
	case bytes.HasPrefix(b, []byte{0xfe, 0xed, 0xfe, 0xed}):
		return ": it is a Java keystore: export it (keytool -importkeystore -deststoretype pkcs12, then openssl " +
			"pkcs12 -nodes)"
	case isDER(b):
		return ": it is DER: convert it (openssl x509 -inform der, openssl pkey -inform der, openssl pkcs12 " +
			"-nodes or openssl pkcs7 -inform der -print_certs)"
	case len(labels) > 0:
		slices.Sort(labels)
		return ": it has " + strings.Join(slices.Compact(labels), ", ")
	}
	return ""
}
