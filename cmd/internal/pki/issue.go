package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/lockstep-tls/lockstep/identity"
	"github.com/lockstep-tls/lockstep/keysource"
)

// Request says what a certificate is for.
type Request struct {
	// Server is for lockstepd, which also calls other replicas with it. Else it is for a node.
	Server bool
	// Node is the node's id. It names the certificate if there is no SPIFFE ID.
	Node   string
	SPIFFE string        // SPIFFE is a SPIFFE ID. With it the certificate has no other name.
	Names  []string      // Names are DNS names, of a server.
	IPs    []string      // IPs are IP addresses, of a server.
	TTL    time.Duration // TTL counts from now.
}

// Issued is a certificate that was written.
type Issued struct {
	Dir      string    `json:"dir"` // Dir holds tls.crt, tls.key and ca.crt.
	Identity string    `json:"identity"`
	IPs      []string  `json:"ips,omitempty"`
	NotAfter time.Time `json:"not_after"`
}

// Issue makes a new key and a certificate for it. It writes both with the CA's certificate into
// dir. Errors wrap [ErrBadRequest] or [ErrExists], or are those of the file system.
func (c *CA) Issue(dir string, r Request, force bool) (Issued, error) {
	template, err := c.template(r)
	if err != nil {
		return Issued{}, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Issued{}, err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, c.cert, key.Public(), c.key)
	if err != nil {
		return Issued{}, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return Issued{}, err
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return Issued{}, err
	}
	out := Issued{Dir: dir, Identity: identity.FromCertificate(cert), NotAfter: cert.NotAfter}
	for _, ip := range cert.IPAddresses {
		out.IPs = append(out.IPs, ip.String())
	}
	return out, write(dir, force, file{KeyFile, keyPEM, 0o600},
		file{CertFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644},
		file{CAFile, c.PEM(), 0o644})
}

func bad(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrBadRequest, fmt.Sprintf(format, args...))
}

func (c *CA) template(r Request) (*x509.Certificate, error) {
	now := time.Now()
	t := &x509.Certificate{
		SerialNumber: serial(), NotBefore: now.Add(-skew), NotAfter: now.Add(r.TTL),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if err := c.mayIssue(t, r.TTL); err != nil {
		return nil, err
	}
	names := r.Names
	if r.Server {
		t.ExtKeyUsage = append(t.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
		if len(r.Names)+len(r.IPs) == 0 {
			return nil, bad("a server needs a name or an IP address that nodes reach it by (--name, --ip)")
		}
	} else {
		id, err := nodeID(r.Node)
		if err != nil {
			return nil, err
		}
		t.Subject = pkix.Name{CommonName: id}
		if r.SPIFFE == "" {
			names = []string{id}
		}
	}
	if r.SPIFFE != "" {
		id, err := spiffeid.FromString(r.SPIFFE)
		if err != nil {
			return nil, bad("--spiffe-id %q: %v", r.SPIFFE, err)
		}
		t.URIs = []*url.URL{id.URL()}
	}
	for _, n := range names {
		host, err := keysource.ServerName(n)
		if err != nil {
			return nil, bad("%q is no DNS name; name the node with --spiffe-id instead: %v", n, err)
		}
		if _, address := host.Address(); address {
			return nil, bad("%q is an IP address: give it with --ip", n)
		}
		if strings.Contains(n, "_") {
			return nil, bad("%q is no DNS name, since it has an underscore; name the node with --spiffe-id instead", n)
		}
		t.DNSNames = append(t.DNSNames, string(host))
	}
	for _, s := range r.IPs {
		ip := net.ParseIP(s)
		if ip == nil {
			return nil, bad("%q is not an IP address", s)
		}
		t.IPAddresses = append(t.IPAddresses, ip)
	}
	return t, nil
}

// mayIssue refuses a lifetime that makes no sense.
func (c *CA) mayIssue(t *x509.Certificate, ttl time.Duration) error {
	switch {
	case ttl <= 0:
		return bad("a lifetime of %s", ttl)
	case t.NotAfter.After(c.cert.NotAfter):
		return bad("it would outlive its CA, which ends at %s: shorten --ttl, or make a new CA",
			c.cert.NotAfter.UTC().Format(time.RFC3339))
	}
	return nil
}

// NodeDir returns the folder of a node's certificate below the CA's folder. Edge-1, edge-1 and
// edge-1. are one node, as they are one identity.
func NodeDir(ca, node string) (string, error) {
	id, err := nodeID(node)
	if err != nil {
		return "", err
	}
	return filepath.Join(ca, "nodes", id), nil
}

// nodeID returns a node's id as package identity writes a DNS name, in lower case and without a dot
// at the end.
func nodeID(node string) (string, error) {
	id := strings.TrimSuffix(node, ".")
	if id == "" || len(id) > 64 || id[0] == '.' || strings.ContainsFunc(id, notInNode) {
		return "", bad("node %q: it names a folder, so 1 to 64 of letters, digits, dots, - and _, and no dot in front",
			node)
	}
	return strings.ToLower(id), nil
}

// ServerDir returns the folder of lockstepd's own certificate.
func ServerDir(ca string) string { return filepath.Join(ca, "server") }

func notInNode(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' || r == '.')
}
