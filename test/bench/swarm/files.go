package swarm

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
)

// Files are PEM files for mTLS: those of one side, and the CA of the other.
type Files struct{ Cert, Key, CA string }

// Client is the configuration of a node. The server is known as localhost.
func (f *Files) Client() (*tls.Config, error) {
	certs, pool, err := f.read()
	return &tls.Config{ServerName: "localhost", RootCAs: pool, Certificates: certs, NextProtos: []string{"h2"}}, err
}

// Server is the configuration of a server that wants certificates from its nodes.
func (f *Files) Server() (*tls.Config, error) {
	certs, pool, err := f.read()
	return &tls.Config{Certificates: certs, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert}, err
}

func (f *Files) read() ([]tls.Certificate, *x509.CertPool, error) {
	pair, err := tls.LoadX509KeyPair(f.Cert, f.Key)
	if err != nil {
		return nil, nil, err
	}
	pem, err := os.ReadFile(f.CA)
	pool := x509.NewCertPool()
	if err == nil && !pool.AppendCertsFromPEM(pem) {
		err = errors.New("no certificate in " + f.CA)
	}
	return []tls.Certificate{pair}, pool, err
}
