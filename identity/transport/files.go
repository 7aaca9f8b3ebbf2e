package transport

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
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
	// operators are the CAs of those who may use the admin API, and both are these and pool. They
	// are nil without a file of theirs.
	operators, both *x509.CertPool
}

// paths are the files that parse takes.
func (c Config) paths() []string {
	paths := []string{c.Cert, c.Key, c.ClientCA}
	if c.AdminCA != "" {
		paths = append(paths, c.AdminCA)
	}
	return paths
}

func openFiles(c Config) (*MTLS, error) {
	w, err := watchfile.Open(parse, c.paths()...)
	if err != nil {
		return nil, err
	}
	f := &files{w, c.Log}
	m := &MTLS{
		server: f.server, client: f.client, close: func() {},
		own: func() []expiry.Certificate { return f.current().own },
	}
	if c.AdminCA != "" {
		m.admin, m.operator = f.admin, f.operator
	}
	return m, nil
}

// parse takes certificate, key, CA, and perhaps the CA of operators, in this order. Its error is
// the first of those of parseAll.
func parse(read []watchfile.File) (*material, error) {
	m, faults := parseAll(read)
	if len(faults) > 0 {
		return nil, faults[0]
	}
	return m, nil
}

// Faults returns everything for which Open refuses the files of c. The keys of the configuration
// begin the texts.
func Faults(c Config) []error {
	if c.Cert == "" {
		return nil
	}
	var read []watchfile.File
	for _, path := range c.paths() {
		b, err := os.ReadFile(path)
		read = append(read, watchfile.File{Path: path, Bytes: b, Err: err})
	}
	_, faults := parseAll(read)
	return faults
}

func parseAll(read []watchfile.File) (m *material, faults []error) {
	cert, key, ca := read[0], read[1], read[2]
	m = &material{pool: x509.NewCertPool()}
	err := cert.Err
	if err == nil {
		err = key.Err
	}
	if err == nil {
		m.pair, err = tls.X509KeyPair(cert.Bytes, key.Bytes)
	}
	if err != nil {
		faults = append(faults, fmt.Errorf("xds_cert %s with xds_key %s: %w", cert.Path, key.Path, err))
	} else {
		m.own = append(m.own, certificate(OwnCertificate, cert.Path, m.pair.Leaf))
	}
	take := func(setting string, f watchfile.File, pools ...*x509.CertPool) {
		err := f.Err
		for _, p := range pools {
			if err == nil && !p.AppendCertsFromPEM(f.Bytes) {
				err = fmt.Errorf("%s holds no certificate", f.Path)
			}
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", setting, err))
			return
		}
		for _, c := range expiry.Parse(f.Bytes) {
			m.own = append(m.own, certificate(ClientCA, f.Path, c))
		}
	}
	take("xds_client_ca", ca, m.pool)
	if len(read) > 3 {
		m.operators, m.both = x509.NewCertPool(), m.pool.Clone()
		take("admin_client_ca", read[3], m.operators, m.both)
	}
	return m, faults
}

func (f *files) server(protos ...string) *tls.Config {
	return f.serve(func(m *material) *x509.CertPool { return m.pool }, protos)
}

func (f *files) admin(protos ...string) *tls.Config {
	return f.serve(func(m *material) *x509.CertPool { return m.both }, protos)
}

// operator verifies a client certificate once more, by the CA of operators alone.
func (f *files) operator(chain []*x509.Certificate) error {
	if len(chain) == 0 {
		return errors.New("there is none")
	}
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{
		Roots: f.current().operators, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	return err
}

// serve is the configuration of a listener that lets in certificates of clients.
func (f *files) serve(clients func(*material) *x509.CertPool, protos []string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: protos,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			m := f.current()
			return &tls.Config{
				MinVersion: tls.VersionTLS12, NextProtos: protos, Certificates: []tls.Certificate{m.pair},
				ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients(m),
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
