package main

import (
	"context"
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
	n, err := keysource.ServerName(name)
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

func renewalTable(w io.Writer, r renewal) {
	switch {
	case !r.Ends:
		row(w, fmt.Sprintf("The session tickets of %s outlive it: issuer and names stay (context %s).", r.Name,
			r.Context))
	case r.Context == r.Next:
		row(w, fmt.Sprintf("It ends the session tickets of %s of %s, and those clients make a full handshake next "+
			"(context %s stays):", r.Name, strings.Join(r.Ended, " and "), r.Context))
	default:
		row(w, fmt.Sprintf("It ends the session tickets of %s, and clients make a full handshake next "+
			"(context %s becomes %s):", r.Name, r.Context, r.Next))
	}
	for _, why := range r.Why {
		row(w, "  "+why)
	}
}
