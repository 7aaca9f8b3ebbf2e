package daemon

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/config"
)

// tlsFiles is mTLS from files that may change at any time: they are looked at again at a handshake, at most once a second, and the last
// good ones stay while what is on disk does not fit together.
type tlsFiles struct {
	cert, key, ca string
	log           *slog.Logger

	mu     sync.Mutex
	looked time.Time
	stamp  [3]fileStamp
	said   string // the last complaint
	pair   *tls.Certificate
	pool   *x509.CertPool
}

type fileStamp struct {
	size int64
	time time.Time
}

// newTLSFiles returns nil where no files are configured.
func newTLSFiles(c config.Config, log *slog.Logger) (*tlsFiles, error) {
	if c.XDSCert == "" {
		return nil, nil
	}
	f := &tlsFiles{cert: c.XDSCert, key: c.XDSKey, ca: c.XDSClientCA, log: log}
	return f, f.load()
}

func (f *tlsFiles) config(protos ...string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: protos,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			pair, pool := f.current()
			return &tls.Config{
				MinVersion: tls.VersionTLS12, NextProtos: protos, Certificates: []tls.Certificate{*pair},
				ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool,
				SessionTicketsDisabled: true, // a node that was taken out of the CA's grace must not come back by a ticket
			}, nil
		},
	}
}

// client is for connections to other replicas, with the files as they are now: they are renewed while we run.
func (f *tlsFiles) client() *tls.Config {
	pair, pool := f.current()
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{*pair}, RootCAs: pool}
}

func (f *tlsFiles) current() (*tls.Certificate, *x509.CertPool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if time.Since(f.looked) >= time.Second {
		f.looked = time.Now()
		if f.changed() {
			if err := f.load(); err != nil && err.Error() != f.said { // they are tried again a second later
				f.said = err.Error()
				f.log.Error("the TLS files do not fit together; the last good ones stay", "err", err)
			}
		}
	}
	return f.pair, f.pool
}

func (f *tlsFiles) stat() (s [3]fileStamp) {
	for i, name := range []string{f.cert, f.key, f.ca} {
		if st, err := os.Stat(name); err == nil {
			s[i] = fileStamp{st.Size(), st.ModTime()}
		}
	}
	return s
}

func (f *tlsFiles) changed() bool { return f.stat() != f.stamp }

func (f *tlsFiles) load() error {
	stamp := f.stat()
	pair, err := tls.LoadX509KeyPair(f.cert, f.key)
	if err != nil {
		return fmt.Errorf("xds_cert %s with xds_key %s: %w", f.cert, f.key, err)
	}
	b, err := os.ReadFile(f.ca)
	if err != nil {
		return fmt.Errorf("xds_client_ca: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		return fmt.Errorf("xds_client_ca: %s holds no certificate", f.ca)
	}
	f.pair, f.pool, f.stamp = &pair, pool, stamp
	return nil
}
