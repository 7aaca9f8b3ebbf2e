package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/probe"
)

// cause is why tries of a probe failed, and what to do. One cause may stand behind many of them.
type cause struct {
	words, next string
	tries       int
	nodes       []string // nodes are those that failed, in the order of the tries.
}

// causesOf groups the pairs that failed, in the order in which the causes come. onDemand says
// whether the host is one that gives no tickets. It is asked at most once, and only if that
// matters.
func causesOf(pairs []probe.Pair, hasCA bool, onDemand func() string) (all []cause) {
	for _, p := range pairs {
		if p.Outcome != probe.Failed {
			continue
		}
		words := causeOf(p.Err)
		i := slices.IndexFunc(all, func(c cause) bool { return c.words == words })
		if i < 0 {
			i, all = len(all), append(all, cause{words: words, next: nextStep(p.Err, hasCA, onDemand)})
		}
		node := p.To
		if strings.HasPrefix(p.Words, "making a session at ") {
			node = p.From
		}
		c := &all[i]
		if c.tries++; !slices.Contains(c.nodes, node) {
			c.nodes = append(c.nodes, node)
		}
	}
	return all
}

// causeOf returns the words of an error without the address and the name, which differ by try.
func causeOf(err error) string {
	var authority x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	var dial *net.OpError
	switch {
	case errors.As(err, &authority):
		return authority.Error()
	case errors.As(err, &name):
		return name.Error()
	case errors.As(err, &invalid):
		return invalid.Error()
	case errors.Is(err, probe.ErrNoTicket):
		return probe.ErrNoTicket.Error()
	case errors.Is(err, probe.ErrLargeKey):
		return probe.ErrLargeKey.Error()
	case errors.As(err, &dial):
		return dial.Op + ": " + dial.Err.Error()
	}
	for next := errors.Unwrap(err); next != nil; next = errors.Unwrap(err) {
		err = next
	}
	return err.Error()
}

// nextStep says what to do, if that is known. With hasCA the caller named a CA.
func nextStep(err error, hasCA bool, onDemand func() string) string {
	var authority x509.UnknownAuthorityError
	var name x509.HostnameError
	switch {
	case errors.As(err, &authority):
		if hasCA {
			return "the nodes' certificates are of another CA than that of --ca"
		}
		return "if the nodes' certificates are of a CA of your own, --ca FILE names it; --insecure checks none"
	case errors.As(err, &name):
		return "--sni is to be a name that these nodes serve"
	case errors.Is(err, probe.ErrNoTicket):
		return onDemand()
	case errors.Is(err, probe.ErrLargeKey):
		return "have it issued for an RSA key of 8192 bits at most, or for ECDSA: many clients refuse larger ones"
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
		return "a node that closes at once may demand a header of the PROXY protocol (--proxy-protocol), or take none"
	}
	return ""
}

// mayBeOnDemand is said where no lockstepd can be asked.
const mayBeOnDemand = "a host whose certificate is fetched on demand gives none: " +
	"lockstep host pin %s makes it eager, lockstep explain %[1]s says which it is"

// onDemand says why a host gives no ticket. lockstepd knows, if it can be asked.
func (a *app) onDemand(cmd *cobra.Command, sni string) (why string) {
	why = fmt.Sprintf(mayBeOnDemand, sni)
	c, err := a.client()
	if err != nil {
		return why
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), 2*time.Second)
	defer cancel()
	e, err := c.Explain(ctx, api.ExplainQuery{Name: sni})
	switch {
	case err != nil || e.Chain == nil:
		return why
	case e.Chain.Kind == "eager":
		return "lockstep nodes says whether the node has its ring: " + e.Chain.Words
	}
	return e.Chain.Words
}

// blame names each cause once.
func blame(w io.Writer, causes []cause) {
	for _, c := range causes {
		nodes := c.nodes
		if more := len(nodes) - listed; more > 0 {
			nodes = append(slices.Clone(nodes[:listed]), fmt.Sprintf("%d more", more))
		}
		row(w, fmt.Sprintf("  %d tries failed, at %s: %s", c.tries, strings.Join(nodes, ", "), c.words))
		if c.next != "" {
			row(w, "    next: "+c.next)
		}
	}
}

// causesText is what follows, for the error.
func causesText(causes []cause) (out string) {
	for _, c := range causes {
		out += fmt.Sprintf("; %d of them: %s", c.tries, c.words)
		if c.next != "" {
			out += " (" + c.next + ")"
		}
	}
	return out
}
