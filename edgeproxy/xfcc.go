package edgeproxy

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
)

// xfcc is the header that tells upstreams about a client's certificate.
//
// Source: Envoy, HTTP header manipulation, x-forwarded-client-cert
const xfcc = "X-Forwarded-Client-Cert"

// connection is what requests of one connection have in common.
type connection struct {
	net.Conn
	once sync.Once
	xfcc string
	kept atomic.Int64 // kept counts the bytes that are kept of its requests.
}

// connKey is the key of a request's context under which its connection stands.
type connKey struct{}

// connContext is for [http.Server].
func connContext(ctx context.Context, c net.Conn) context.Context {
	at := &connection{Conn: c}
	return context.WithValue(context.WithValue(ctx, keptKey{}, &at.kept), connKey{}, at)
}

// connectionOf returns the connection of a request.
func connectionOf(r *http.Request) *connection {
	return r.Context().Value(connKey{}).(*connection)
}

// clientCert returns the value of xfcc for a request. It is empty if the client has shown no
// certificate. A resumed session has the certificate of its full handshake, which stands in the
// ticket.
func (l *listener) clientCert(r *http.Request) string {
	if len(r.TLS.PeerCertificates) == 0 {
		return ""
	}
	c := connectionOf(r)
	c.once.Do(func() {
		c.xfcc = l.describe(r.TLS.PeerCertificates[0], l.servedAs(r))
	})
	return c.xfcc
}

// describe writes what Envoy writes with forward_client_cert_details SANITIZE_SET and the details
// subject, uri and dns: By, Hash, Subject, URI and DNS, and with xfcc_cert also Cert. own is the
// certificate of the edge. It may be nil, and then there is no By.
func (l *listener) describe(client, own *x509.Certificate) string {
	var b strings.Builder
	if own != nil {
		_, uris := subjectNames(own)
		for _, u := range uris {
			fmt.Fprintf(&b, "By=%s;", quoted(u))
		}
	}
	sum := sha256.Sum256(client.Raw)
	b.WriteString("Hash=" + hex.EncodeToString(sum[:]))
	if l.XFCCCert {
		text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: client.Raw})
		fmt.Fprintf(&b, `;Cert="%s"`, pemEscape.Replace(string(text)))
	}
	fmt.Fprintf(&b, `;Subject="%s"`, distinguishedName(client.RawSubject))
	dns, uris := subjectNames(client)
	if len(uris) == 0 {
		b.WriteString(";URI=")
	}
	for _, u := range uris {
		b.WriteString(";URI=" + quoted(u))
	}
	for _, n := range dns {
		b.WriteString(";DNS=" + quoted(n))
	}
	return b.String()
}

// pemEscape escapes PEM for a URL.
var pemEscape = strings.NewReplacer("\n", "%0A", " ", "%20", "+", "%2B", "/", "%2F", "=", "%3D")

// quoted writes a name. The CA of a client answers for its names, and not for what they would mean
// in a header. So a name is quoted if it could be read as more than one field. Envoy does not quote
// it. What cannot stand in a header is percent-encoded.
func quoted(name string) string {
	var b strings.Builder
	quote := false
	for i := range len(name) {
		switch c := name[i]; {
		case c < ' ' || c >= 0x7f:
			fmt.Fprintf(&b, "%%%02X", c)
			continue
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			quote = true
		case c == ',' || c == ';' || c == ' ':
			quote = true
		}
		b.WriteByte(name[i])
	}
	if quote {
		return `"` + b.String() + `"`
	}
	return b.String()
}

// ownWithin bounds how long a request waits for the certificate of its connection. It is held
// nearly always, since the handshake has used it.
const ownWithin = time.Second

// servedAs returns the certificate that the client of a request is shown. It is nil if that is not
// known.
func (l *listener) servedAs(r *http.Request) *x509.Certificate {
	ctx, cancel := context.WithTimeout(l.proxy.requests, ownWithin)
	defer cancel()
	names := []keysource.Name{l.fallback}
	if name := r.TLS.ServerName; name == "" {
		names = []keysource.Name{l.addressOf(ctx, localAddr(r)), l.fallback}
	} else if n, err := hostName(name); err == nil {
		names = []keysource.Name{n, l.fallback}
	}
	for _, n := range names {
		if n == "" {
			continue
		}
		if c, err := l.proxy.opts.Certificates.Certificate(ctx, n); err == nil {
			return c.Leaf
		}
	}
	return nil
}

var oidSubjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}

// subjectNames returns the DNS names and the URIs of c, as they stand in it. [x509.Certificate] has
// URIs that are parsed, and would be written in another way.
func subjectNames(c *x509.Certificate) (dns, uris []string) {
	for _, e := range c.Extensions {
		if !e.Id.Equal(oidSubjectAltName) {
			continue
		}
		var all []asn1.RawValue
		if _, err := asn1.Unmarshal(e.Value, &all); err != nil {
			return nil, nil
		}
		for _, n := range all {
			switch n.Tag { // of GeneralName (RFC 5280, section 4.2.1.6)
			case 2:
				dns = append(dns, string(n.Bytes))
			case 6:
				uris = append(uris, string(n.Bytes))
			}
		}
	}
	return dns, uris
}
