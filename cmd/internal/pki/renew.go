package pki

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/lockstep-tls/lockstep/identity"
	"github.com/lockstep-tls/lockstep/internal/expiry"
)

// These are values of Role in [Listed].
const (
	RoleCA     = "ca"
	RoleServer = "server"
	RoleNode   = "node"
)

// Listed is a certificate of a CA's folder.
type Listed struct {
	Role     string    `json:"role"` // Role is ca, server or node.
	Name     string    `json:"name"` // Name is what `pki renew` takes.
	Dir      string    `json:"dir"`
	Identity string    `json:"identity,omitempty"`
	NotAfter time.Time `json:"not_after,omitzero"`
	// DaysLeft are whole days. It is negative once the certificate has expired.
	DaysLeft int `json:"days_left"`
	// State is good, near its end (30 days left, or a third of the lifetime), urgent (3 days, or a
	// tenth) or expired. It is unreadable if Problem says why.
	State   string `json:"state"`
	Problem string `json:"problem,omitempty"`
}

// Due reports whether the certificate should be renewed.
func (l Listed) Due() bool { return l.State != expiry.Good.String() && l.Problem == "" }

// List returns the CA's certificate, the server's and the nodes', in this order. It needs no key. A
// certificate that was issued into another folder is not in it.
func List(dir string, now time.Time) ([]Listed, error) {
	if _, err := os.Stat(filepath.Join(dir, CAFile)); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("there is no CA in %s: make one with: lockstep pki init --dir %s", dir, dir)
		}
		return nil, err
	}
	all := []Listed{listed(RoleCA, RoleCA, dir, CAFile, now)}
	if _, err := os.Stat(ServerDir(dir)); err == nil {
		all = append(all, listed(RoleServer, RoleServer, ServerDir(dir), CertFile, now))
	}
	nodes := filepath.Join(dir, "nodes")
	folders, err := os.ReadDir(nodes)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, f := range folders {
		all = append(all, listed(RoleNode, f.Name(), filepath.Join(nodes, f.Name()), CertFile, now))
	}
	return all, nil
}

func listed(role, name, dir, file string, now time.Time) Listed {
	l := Listed{Role: role, Name: name, Dir: dir}
	cert, err := readCert(filepath.Join(dir, file))
	if err != nil {
		l.State, l.Problem = "unreadable", err.Error()
		return l
	}
	l.NotAfter, l.DaysLeft = cert.NotAfter, int(cert.NotAfter.Sub(now).Hours()/24)
	if now.After(cert.NotAfter) {
		l.DaysLeft--
	}
	l.State = expiry.SpanOf(cert).State(expiry.Proof, now).String()
	if l.Identity = identity.FromCertificate(cert); l.Identity == "" && role == RoleCA {
		l.Identity = cert.Subject.CommonName
	}
	if len(cert.IPAddresses) > 0 {
		l.Identity = cmp.Or(l.Identity, cert.IPAddresses[0].String())
	}
	return l
}

// Renewal says how to renew.
type Renewal struct {
	TTL    time.Duration // TTL counts from now. If it is 0, it is as long as last time.
	NewKey bool          // NewKey makes a new key. Else the key stays.
}

// Renew issues the certificate in dir anew, with the same names, and replaces tls.crt. If the key
// stays, that is one file, and a program that reads the files at any time finds a pair. With a new
// key there is a moment in which the two do not fit: lockstepd and lockstep-edge then go on with
// what they had, or try again.
//
// It refuses a certificate that this CA has not issued, and one that would outlive the CA.
func (c *CA) Renew(dir string, r Renewal) (Issued, error) {
	old, err := readCert(filepath.Join(dir, CertFile))
	if err != nil {
		return Issued{}, err
	}
	if err := old.CheckSignatureFrom(c.cert); err != nil {
		return Issued{}, bad("%s was not issued by this CA: issue it anew with lockstep pki issue --force",
			filepath.Join(dir, CertFile))
	}
	now := time.Now()
	ttl := cmp.Or(r.TTL, old.NotAfter.Sub(old.NotBefore)-skew)
	next := &x509.Certificate{
		SerialNumber: serial(), NotBefore: now.Add(-skew), NotAfter: now.Add(ttl), Subject: old.Subject,
		KeyUsage: old.KeyUsage, ExtKeyUsage: old.ExtKeyUsage,
		DNSNames: old.DNSNames, IPAddresses: old.IPAddresses, URIs: old.URIs,
	}
	if err := c.mayIssue(next, ttl); err != nil {
		return Issued{}, err
	}
	keyPEM, err := os.ReadFile(filepath.Join(dir, KeyFile))
	var key *ecdsa.PrivateKey
	switch {
	case r.NewKey:
		if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err == nil {
			keyPEM, err = encodeKey(key)
		}
	case err == nil:
		key, err = parseKey(keyPEM)
	}
	if err != nil {
		return Issued{}, fmt.Errorf("%s: %w", filepath.Join(dir, KeyFile), err)
	}
	if !r.NewKey && !key.PublicKey.Equal(old.PublicKey) {
		return Issued{}, bad("%s does not belong to %s beside it: renew it with --new-key", KeyFile, CertFile)
	}
	der, err := x509.CreateCertificate(rand.Reader, next, c.cert, key.Public(), c.key)
	if err != nil {
		return Issued{}, err
	}
	files := []file{{CertFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644}}
	if r.NewKey {
		files = append([]file{{KeyFile, keyPEM, 0o600}}, files...)
	}
	out := Issued{Dir: dir, Identity: identity.FromCertificate(next), NotAfter: next.NotAfter.Truncate(time.Second)}
	for _, ip := range next.IPAddresses {
		out.IPs = append(out.IPs, ip.String())
	}
	return out, write(dir, true, files...)
}

func readCert(path string) (*x509.Certificate, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	cert, err := parseCert(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return cert, nil
}
