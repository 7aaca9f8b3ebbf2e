package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/lockstep-tls/lockstep/probe"
)

// verifyFor bounds a probe of many nodes that do not answer.
const verifyFor = 2 * time.Minute

func (a *app) verifyCommand() *cobra.Command {
	var (
		c     probe.Config
		ca    string
		cross []string
		proxy string
	)
	cmd := &cobra.Command{
		Use: "verify --sni NAME (ADDR... | --cross ADDR,ADDR)",
		Short: "Make a TLS session at each node and offer it to each: shows which resume (exit code 1 where one " +
			"does not)",
		Long: "Make a session at each address (host:port), with TLS 1.2 and with 1.3, and offer it to each, the " +
			"same one included.\n" +
			"Where a node serves an ECDSA and an RSA certificate, also whether a client that can do RSA only is " +
			"served.\n" +
			"Above 20 addresses the pairs are sampled. It needs no lockstepd.\n\n" +
			"With --cross the addresses stand for nodes of different scopes: each session must resume at its own " +
			"node and at no other, and no two\n" +
			"nodes may make tickets with the same key.",
		Args: func(cmd *cobra.Command, args []string) error {
			if (len(args) > 0) == (cross != nil) {
				return usage("give addresses, either as arguments or with --cross")
			}
			if slices.Contains(args, "v1") || slices.Contains(args, "v2") {
				return usage("the version stands behind an equals sign: --proxy-protocol=v1")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			c.Addrs = args
			if proxy != "" {
				if proxy != "v1" && proxy != "v2" {
					return usage("--proxy-protocol is v1 or v2")
				}
				c.ProxyProtocol = int(proxy[1] - '0')
			}
			if ca != "" {
				var err error
				if c.RootCAs, err = readPool(ca); err != nil {
					return fmt.Errorf("--ca: %w", err)
				}
			}
			ctx, cancel := a.within(cmd, verifyFor)
			defer cancel()
			probing := probe.Verify
			if cross != nil {
				c.Addrs, probing = cross, probe.Cross
			}
			m, err := probing(ctx, c)
			if cmd.Context().Err() == nil && ctx.Err() != nil {
				return fail(exitTimedOut, "not all of %d nodes were probed within %s (--timeout)", len(c.Addrs),
					a.limit)
			}
			if err != nil {
				return err
			}
			if cross != nil {
				return a.showCross(c.Addrs, m)
			}
			if m.OnlyRSA, err = probe.OnlyRSA(ctx, c); err != nil {
				return fail(exitTimedOut, "not all of %d nodes were probed within %s (--timeout)", len(c.Addrs),
					a.limit)
			}
			causes := causesOf(m.Pairs, ca != "", func() string { return a.onDemand(cmd, c.SNI) })
			if err := show(a, m, func(w io.Writer, m probe.Matrix) { matrixTable(w, args, m, causes) }); err != nil {
				return err
			}
			if !m.OK() {
				if n := refusesRSA(m); n > 0 && count(m.Pairs, probe.Resumed) == len(m.Pairs) {
					return fail(exitFailed, "%d of %d nodes do not serve the RSA certificate: a chain of a bootstrap "+
						"must name both (lockstep bootstrap envoy), and on demand there is one", n, len(m.OnlyRSA))
				}
				return fail(exitFailed, "%d of %d sessions did not resume%s",
					len(m.Pairs)-count(m.Pairs, probe.Resumed), len(m.Pairs), causesText(causes))
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&c.SNI, "sni", "", "the server `name` to ask for")
	cmd.Flags().StringVar(&ca, "ca", "", "PEM `file` with the CA of the nodes' certificates (default: the system's)")
	cmd.Flags().BoolVar(&c.Insecure, "insecure", false, "do not check the nodes' certificates")
	cmd.Flags().StringSliceVar(&cross, "cross", nil,
		"`addresses` of nodes of different scopes: prove that no ticket crosses")
	cmd.Flags().StringVar(&proxy, "proxy-protocol", "",
		"begin each connection with a header of the PROXY protocol, as nodes behind a balancer demand; its "+
			"`version` is v1, or v2 without a value")
	cmd.Flags().Lookup("proxy-protocol").NoOptDefVal = "v2"
	cmd.MarkFlagRequired("sni")
	cmd.MarkFlagsMutuallyExclusive("ca", "insecure")
	return cmd
}

// words are the texts of the cells of the matrix.
var words = map[probe.Outcome]string{probe.Resumed: "resumed", probe.Full: "FULL", probe.Failed: "ERROR"}

func matrixTable(w io.Writer, addrs []string, m probe.Matrix, causes []cause) {
	for len(m.Pairs) > 0 {
		version := m.Pairs[0].Version
		end := slices.IndexFunc(m.Pairs, func(p probe.Pair) bool { return p.Version != version })
		if end < 0 {
			end = len(m.Pairs)
		}
		fmt.Fprintf(w, "%s: %d of %d sessions resumed\n", tls.VersionName(version), count(m.Pairs[:end], probe.Resumed),
			end)
		if m.Sampled {
			sampleTable(w, addrs, m.Pairs[:end])
		} else {
			grid(w, addrs, m.Pairs[:end])
		}
		declined(w, m.Pairs[:end])
		m.Pairs = m.Pairs[end:]
		if len(m.Pairs) > 0 {
			fmt.Fprintln(w)
		}
	}
	if n := len(m.OnlyRSA); n > 0 {
		fmt.Fprintf(w, "\na client that can do RSA only: served by %d of %d nodes\n", n-refusesRSA(m), n)
	}
	for _, s := range m.OnlyRSA {
		if s.Words != "" {
			row(w, "  "+s.Addr+": "+s.Words)
		}
	}
	blame(w, causes)
}

// refusesRSA counts the nodes that do not serve a client that can do RSA only.
func refusesRSA(m probe.Matrix) (n int) {
	for _, s := range m.OnlyRSA {
		if s.Words != "" {
			n++
		}
	}
	return n
}

// grid writes a row for each node that made a session, and a column for each node that was offered
// it. The pairs are in the order of the rows.
func grid(w io.Writer, addrs []string, pairs []probe.Pair) {
	head := []string{"", "made at / offered to"}
	for i := range addrs {
		head = append(head, strconv.Itoa(i+1))
	}
	row(w, head...)
	for i, addr := range addrs {
		cells := []string{strconv.Itoa(i + 1), addr}
		for _, p := range pairs[i*len(addrs):][:len(addrs)] {
			cells = append(cells, words[p.Outcome])
		}
		row(w, cells...)
	}
}

// sampleTable sums up, for each node, its sessions at other nodes and the others' sessions there.
func sampleTable(w io.Writer, addrs []string, pairs []probe.Pair) {
	row(w, "NODE", "ITS SESSIONS RESUMED ELSEWHERE", "OTHERS' RESUMED HERE")
	of := func(keep func(probe.Pair) bool) string {
		some := slices.DeleteFunc(slices.Clone(pairs), func(p probe.Pair) bool { return !keep(p) })
		return fmt.Sprintf("%d of %d", count(some, probe.Resumed), len(some))
	}
	for _, addr := range addrs {
		row(w, addr, of(func(p probe.Pair) bool { return p.From == addr }),
			of(func(p probe.Pair) bool { return p.To == addr }))
	}
}

// listed is how many pairs a table names. With -o json all are there.
const listed = 20

// declined names the pairs where a ticket was not taken.
func declined(w io.Writer, pairs []probe.Pair) {
	n := 0
	for _, p := range pairs {
		if p.Outcome != probe.Full {
			continue
		}
		if n++; n <= listed {
			row(w, fmt.Sprintf("  %s -> %s: the ticket was declined, and a full handshake made", p.From, p.To))
		}
	}
	if n > listed {
		fmt.Fprintf(w, "  and %d more (-o json lists them)\n", n-listed)
	}
}

func count(pairs []probe.Pair, o probe.Outcome) (n int) {
	for _, p := range pairs {
		if p.Outcome == o {
			n++
		}
	}
	return n
}
