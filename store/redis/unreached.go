package redis

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
)

// unreached is the error of a server that no connection was made to. Nothing was sent to it.
type unreached struct {
	config *Config
	addr   string // addr is what the URL, a Sentinel or the cluster gave.
	to     string // to is what was dialled in its place.
	err    error

	connected bool // connected is true if TLS has failed, and not the connection.
}

func (u *unreached) Unwrap() error { return u.err }

func (u *unreached) Error() string {
	at := u.addr
	if u.to != u.addr {
		at += ", reached as " + u.to
	}
	return fmt.Sprintf("connecting to %s: %v", at, u.err)
}

// given reports whether the URL names the server, and not only a Sentinel or the cluster.
func (u *unreached) given() bool { return slices.Contains(u.config.Servers, u.addr) }

// wrongCertificate reports whether err is of a certificate, which no other try mends.
func wrongCertificate(err error) bool {
	wrong := new(tls.CertificateVerificationError)
	return errors.As(err, &wrong)
}

// diagnosis says what is wrong, and which setting to look at.
func (u *unreached) diagnosis() string {
	var (
		name    x509.HostnameError
		unknown x509.UnknownAuthorityError
		invalid x509.CertificateInvalidError
		dns     *net.DNSError
		op      *net.OpError
	)
	switch {
	case errors.As(u.err, &name):
		return u.names(name.Certificate) + ":"
	case errors.As(u.err, &unknown) && u.config.CAFile == "":
		return "has a certificate of a CA that is none of the system's: give tls_ca=/path:"
	case errors.As(u.err, &unknown):
		return fmt.Sprintf("has a certificate of no CA in %s: put its CA there (tls_ca):", u.config.CAFile)
	case errors.As(u.err, &invalid):
		return "has a certificate that is not valid: renew it (redis-cli config set tls-cert-file takes the new one):"
	case errors.As(u.err, &op) && op.Op == "remote error":
		return clientCertificate + ":"
	case u.connected && u.config.Cluster && !u.given():
		return fmt.Sprintf("speaks no TLS at %s, which the cluster gave: set tls-cluster yes on its servers:", u.to)
	case u.connected:
		return "speaks no TLS at this port: name its tls-port, or begin the URL with redis instead of rediss " +
			"and leave out tls_ca, tls_cert and tls_name:"
	case u.given() || !errors.As(u.err, &dns) && !(errors.As(u.err, &op) && op.Op == "dial"):
		return "does not answer: is it up, and reachable from here?"
	}
	who := "the cluster"
	if u.config.Master != "" {
		who = "the Sentinels"
	}
	if u.to != u.addr {
		return fmt.Sprintf("does not answer: %s gave %s, and announce leads to %s: is it up, and reachable from here?",
			who, u.addr, u.to)
	}
	return fmt.Sprintf("does not answer: is it up, and reachable from here? %s gave the address; "+
		"if it is another one from here, give announce=%s=HOST:PORT:", who, u.addr)
}

const clientCertificate = "refuses the client certificate, or the lack of one: give tls_cert=/path and " +
	"tls_key=/path, of a CA that it knows (its tls-ca-cert-file)"

// names says what to set for a server that has another certificate.
func (u *unreached) names(cert *x509.Certificate) string {
	names := slices.Clone(cert.DNSNames)
	for _, ip := range cert.IPAddresses {
		names = append(names, ip.String())
	}
	if len(names) == 0 {
		return "has a certificate without a name (subjectAltName): make one that has, and give tls_name=NAME " +
			"if that is not the host of the address"
	}
	first := names[0]
	if parent, ok := strings.CutPrefix(first, "*."); ok {
		first = "NAME." + parent
	}
	if len(names) > 3 {
		names = append(names[:3], "…")
	}
	has := fmt.Sprintf("has a certificate for %s", strings.Join(names, ", "))
	if len(u.config.TLSNames) == 0 {
		return fmt.Sprintf("%s: if that is the right server, give tls_name=%s", has, first)
	}
	wanted := strings.Join(u.config.TLSNames, ",")
	return fmt.Sprintf("%s, and tls_name is %s: if that is the right server, give tls_name=%s,%s",
		has, wanted, wanted, first)
}
