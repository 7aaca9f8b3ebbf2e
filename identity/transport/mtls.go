package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/workloadapi"

	"github.com/lockstep-tls/lockstep/internal/expiry"
)

// Config of [Open].
type Config struct {
	// Cert, Key and ClientCA are PEM files: the own certificate, its key, and the CA of those who
	// may connect. They go together.
	Cert, Key, ClientCA string
	// AdminCA is a PEM file with the CA of those who may use the admin API, besides the files. It
	// may be empty.
	AdminCA string
	// SPIFFESocket is the address of a SPIFFE Workload API. It takes the place of the files.
	SPIFFESocket string
	// Federated lets in nodes of other trust domains whose bundles the Workload API gives out.
	// Set it only where a policy says what each of them may have.
	Federated bool
	Log       *slog.Logger
}

// MTLS is mutual TLS with certificates that are replaced while the process runs. It lets nobody in
// without a client certificate that it has verified, and resumes no sessions. All methods are safe
// for concurrent use.
type MTLS struct {
	server func(protos ...string) *tls.Config
	admin  func(protos ...string) *tls.Config // nil: as server
	// operator returns why a certificate is of no CA of AdminCA. It is nil without that file.
	operator func([]*x509.Certificate) error
	client   func() *tls.Config
	own      func() []expiry.Certificate
	close    func()
}

// Open returns nil if neither files nor a Workload API are configured.
func Open(c Config) (*MTLS, error) {
	switch {
	case c.SPIFFESocket != "":
		return openSPIFFE(c, spiffeWithin)
	case c.Cert != "":
		return openFiles(c)
	}
	return nil, nil
}

// Server returns the configuration of a listener that offers protos by ALPN.
func (m *MTLS) Server(protos ...string) *tls.Config { return m.server(protos...) }

// Admin is Server for the admin API. It lets in certificates of the CA of nodes, and of AdminCA.
// Whether one of them may do anything is decided by Operator and by whoever serves.
func (m *MTLS) Admin(protos ...string) *tls.Config {
	if m.admin == nil {
		return m.server(protos...)
	}
	return m.admin(protos...)
}

// Operator returns a function that returns why the first of these certificates is of no CA of
// AdminCA. It is nil if there is no such file.
func (m *MTLS) Operator() func([]*x509.Certificate) error {
	if m == nil {
		return nil
	}
	return m.operator
}

// Client returns the configuration of one connection to another replica, with the certificates as
// they are now.
func (m *MTLS) Client() *tls.Config { return m.client() }

// Close ends the watch over the certificates.
func (m *MTLS) Close() { m.close() }

// spiffeWithin bounds the wait for the first SVID.
const spiffeWithin = 10 * time.Second

// openSPIFFE takes certificate and bundles from the Workload API, which replaces them as they
// change.
func openSPIFFE(c Config, within time.Duration) (*MTLS, error) {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	source, err := workloadapi.NewX509Source(ctx,
		workloadapi.WithClientOptions(workloadapi.WithAddr(c.SPIFFESocket), workloadapi.WithLogger(spiffeLog{c.Log})))
	if err != nil {
		return nil, fmt.Errorf("spiffe_socket %s: no certificate within %s: is the agent up, "+
			"and has it an entry for this process? %w", c.SPIFFESocket, within, err)
	}
	own, err := source.GetX509SVID()
	if err != nil {
		source.Close()
		return nil, fmt.Errorf("spiffe_socket %s: %w", c.SPIFFESocket, err)
	}
	c.Log.Info("certificate from the SPIFFE Workload API", "id", own.ID.String(), "until", own.Certificates[0].NotAfter)
	allowed := tlsconfig.AuthorizeMemberOf(own.ID.TrustDomain())
	if c.Federated {
		allowed = tlsconfig.AuthorizeAny()
	}
	return &MTLS{
		server: func(protos ...string) *tls.Config {
			t := tlsconfig.MTLSServerConfig(source, source, allowed)
			t.NextProtos, t.SessionTicketsDisabled = protos, true
			return t
		},
		client: func() *tls.Config { // all replicas have one ID
			return tlsconfig.MTLSClientConfig(source, source, tlsconfig.AuthorizeID(own.ID))
		},
		own:   func() []expiry.Certificate { return fromAPI(source, c.SPIFFESocket) },
		close: func() { source.Close() },
	}, nil
}

// spiffeLog passes on the messages of the client of the Workload API.
type spiffeLog struct{ log *slog.Logger }

func (l spiffeLog) Debugf(format string, args ...any) {
	l.log.Debug("SPIFFE Workload API: " + fmt.Sprintf(format, args...))
}

func (l spiffeLog) Infof(format string, args ...any) {
	l.log.Debug("SPIFFE Workload API: " + fmt.Sprintf(format, args...))
}

func (l spiffeLog) Warnf(format string, args ...any) {
	l.log.Warn("SPIFFE Workload API: " + fmt.Sprintf(format, args...))
}

func (l spiffeLog) Errorf(format string, args ...any) {
	l.log.Error("SPIFFE Workload API: " + fmt.Sprintf(format, args...))
}
