package daemon

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/workloadapi"

	"github.com/lockstep-tls/lockstep/cmd/internal/config"
)

// serverTLS is mTLS as this process speaks it: it lets nobody in without a client certificate that it has verified, and resumes no sessions,
// since a node that was taken out of the CA's grace must not come back by a ticket.
type serverTLS struct {
	config func(protos ...string) *tls.Config
	client func() *tls.Config // for one connection to another replica
	close  func()
}

// newServerTLS returns nil where neither files nor a SPIFFE Workload API are configured.
func newServerTLS(c config.Config, log *slog.Logger) (*serverTLS, error) {
	if c.SPIFFESocket != "" {
		return newSPIFFE(c, spiffeWithin, log)
	}
	files, err := newTLSFiles(c, log)
	if files == nil || err != nil {
		return nil, err
	}
	return &serverTLS{files.config, files.client, func() {}}, nil
}

// spiffeWithin bounds the wait for the first SVID.
const spiffeWithin = 10 * time.Second

// newSPIFFE takes certificate and bundles from the Workload API, which replaces them as they change. Nodes of other trust domains, whose bundles it
// may hold too (federation), are let in only where a policy says what each may have.
func newSPIFFE(c config.Config, within time.Duration, log *slog.Logger) (*serverTLS, error) {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	source, err := workloadapi.NewX509Source(ctx, workloadapi.WithClientOptions(workloadapi.WithAddr(c.SPIFFESocket), workloadapi.WithLogger(spiffeLog{log})))
	if err != nil {
		return nil, fmt.Errorf("spiffe_socket %s: no certificate within %s: is the agent up, and has it an entry for this process? %w", c.SPIFFESocket, within, err)
	}
	own, err := source.GetX509SVID()
	if err != nil {
		source.Close()
		return nil, fmt.Errorf("spiffe_socket %s: %w", c.SPIFFESocket, err)
	}
	log.Info("certificate from the SPIFFE Workload API", "id", own.ID.String(), "until", own.Certificates[0].NotAfter)
	allowed := tlsconfig.AuthorizeMemberOf(own.ID.TrustDomain())
	if c.Policy != "" {
		allowed = tlsconfig.AuthorizeAny()
	}
	return &serverTLS{
		config: func(protos ...string) *tls.Config {
			t := tlsconfig.MTLSServerConfig(source, source, allowed)
			t.NextProtos, t.SessionTicketsDisabled = protos, true
			return t
		},
		client: func() *tls.Config { return tlsconfig.MTLSClientConfig(source, source, tlsconfig.AuthorizeID(own.ID)) }, // replicas have one ID
		close:  func() { source.Close() },
	}, nil
}

// spiffeLog passes on what the client of the Workload API has to say.
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
