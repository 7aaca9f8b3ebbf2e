package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/keysource"
)

// renewal is what plan --cert prints.
type renewal struct {
	Name    string   `json:"name"`
	Context string   `json:"context"` // Context is what tickets are bound to now.
	Next    string   `json:"next"`    // Next is what they would be bound to.
	Ends    bool     `json:"ends_tickets"`
	Ended   []string `json:"ended"` // Ended has the TLS versions whose tickets end.
	Why     []string `json:"why"`
}

// planRenewal compares the certificate of a name with a chain that would replace it.
func (a *app) planRenewal(cmd *cobra.Command, name, file string) error {
	n, err := keysource.CertName(name)
	if err != nil {
		return err
	}
	chain, err := readSome(file)
	if err != nil {
		return err
	}
	if err := keysource.CheckChain(chain, n, time.Now()); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	next, err := keysource.ResumptionContext(chain, n)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return a.call(cmd, usual, func(ctx context.Context, c *api.Client) error {
		have, err := c.Cert(ctx, string(n))
		if notThere := (*api.Error)(nil); n.IsSecond() && errors.As(err, &notThere) && notThere.Code == api.NotFound {
			return a.planSecond(ctx, c, n, next)
		}
		if err != nil {
			return err
		}
		now, err := keysource.ResumptionContext([]byte(have.Chain), n)
		if err != nil {
			return err
		}
		r := renewal{Name: string(n), Context: now.Fingerprint, Next: next.Fingerprint,
			Ended: append([]string{}, now.Ended(next)...), Why: append([]string{}, now.Changes(next)...)}
		r.Ends = len(r.Why) > 0
		return show(a, r, renewalTable)
	})
}

// planSecond says what it does to tickets to add a second certificate to a host.
func (a *app) planSecond(ctx context.Context, c *api.Client, n keysource.Name, next keysource.Context) error {
	first, err := c.Cert(ctx, string(n.Host()))
	if err != nil {
		return err
	}
	if err := (keysource.Certificate{PEM: keysource.PEM{Chain: []byte(first.Chain)}}).CheckFirst(n.Host()); err != nil {
		return err
	}
	return show(a, secondAdded(n, first.Context, next.Fingerprint), renewalTable)
}

// secondAdded is what the second certificate n does to the tickets of its host. The contexts are
// those of the two certificates. They may be equal, and the chain's is another one.
func secondAdded(n keysource.Name, first, second string) renewal {
	return renewal{
		Name: string(n), Context: first, Next: first + "+" + second, Ends: true, Ended: []string{"TLS 1.2", "TLS 1.3"},
		Why: []string{fmt.Sprintf("a second certificate, RSA, is added to %s: Envoy binds tickets to all certificates "+
			"of a chain (those of lockstep-edge outlive it)", n.Host())},
	}
}

func renewalTable(w io.Writer, r renewal) {
	host := string(keysource.Name(r.Name).Host())
	if host != r.Name {
		row(w, fmt.Sprintf("%s is the RSA certificate beside the ECDSA one of %s.", r.Name, host))
	}
	switch {
	case !r.Ends:
		row(w, fmt.Sprintf("The session tickets of %s outlive it: issuer and names stay (context %s).", host,
			r.Context))
	case r.Context == r.Next:
		row(w, fmt.Sprintf("It ends the session tickets of %s of %s, and those clients make a full handshake next "+
			"(context %s stays):", host, strings.Join(r.Ended, " and "), r.Context))
	default:
		row(w, fmt.Sprintf("It ends the session tickets of %s, and clients make a full handshake next "+
			"(context %s becomes %s):", host, r.Context, r.Next))
	}
	for _, why := range r.Why {
		row(w, "  "+why)
	}
}
