package transport

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"time"

	"github.com/lockstep-tls/lockstep/internal/expiry"
	"github.com/lockstep-tls/lockstep/internal/watchfile"
)

// lookEvery is how long a handshake goes by the files as they were read last.
const lookEvery = time.Second

// files is mTLS from PEM files that may change at any time. A handshake reads them again, at most
// once in lookEvery. While they do not fit together, the last good ones stay.
type files struct {
	watched *watchfile.Watched[*material]
	log     *slog.Logger
}

// material is what the files hold.
type material struct {
	pair tls.Certificate
	pool *x509.CertPool
	own  []expiry.Certificate
}

func openFiles(c Config) (*MTLS, error) {
	w, err := watchfile.Open(parse, c.Cert, c.Key, c.ClientCA)
	if err != nil {
		return nil, err
	}
	f := &files{w, c.Log}
	return &MTLS{
		server: f.server, client: f.client, close: func() {},
		own: func() []expiry.Certificate { return f.current().own },
	}, nil
}

// parse takes certificate, key and CA, in this order.
func parse(read []watchfile.File) (*material, error) {
	cert, key, ca := read[0], read[1], read[2]
	m := &material{pool: x509.NewCertPool()}
	err := cert.Err
	if err == nil {
		err = key.Err
	}
	if err == nil {
		m.pair, err = tls.X509KeyPair(cert.Bytes, key.Bytes)
	}
	if err != nil {
		return nil, fmt.Errorf("xds_cert %s with xds_key %s: %w", cert.Path, key.Path, err)
	}
	if ca.Err != nil {
		return nil, fmt.Errorf("xds_client_ca: %w", ca.Err)
	}
	if !m.pool.AppendCertsFromPEM(ca.Bytes) {
		return nil, fmt.Errorf("xds_client_ca: %s holds no certificate", ca.Path)
	}
	m.own = append(m.own, certificate(OwnCertificate, cert.Path, m.pair.Leaf))
	for _, c := range expiry.Parse(ca.Bytes) {
		m.own = append(m.own, certificate(ClientCA, ca.Path, c))
	}
	return m, nil
}

func (f *files) server(protos ...string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: protos,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			m := f.current()
			return &tls.Config{
				MinVersion: tls.VersionTLS12, NextProtos: protos, Certificates: []tls.Certificate{m.pair},
				ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: m.pool,
				SessionTicketsDisabled: true,
			}, nil
		},
	}
}

func (f *files) client() *tls.Config {
	m := f.current()
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{m.pair}, RootCAs: m.pool}
}

func (f *files) current() *material {
	if _, fault := f.watched.LookAfter(lookEvery); fault != nil {
		f.log.Error("the TLS files do not fit together; the last good ones stay", "err", fault)
	}
	return f.watched.Now()
}
