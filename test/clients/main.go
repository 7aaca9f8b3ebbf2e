// Clients shows which sessions of real client programs resume where: at the same node, at another,
// at one of the other kind, and after a rotation. Each program is of others, and connects to one
// address, as to a balancer. Behind it are two Envoys and two lockstep-edge under one lockstepd.
// What happened is read off the wire. It ends with 1 if a connection fails.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

func main() {
	only := flag.String("only", "", "these `clients` only, such as OpenSSL,Java")
	page := flag.String("page", "", "write the tables into this `file`, between their marks")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *only, *page); err != nil {
		fmt.Fprintln(os.Stderr, "clients:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, only, page string) error {
	root, err := fleet.Root()
	if err != nil {
		return err
	}
	wanted, err := chosen(only)
	if err != nil {
		return err
	}
	sources := filepath.Join(root, "test", "clients")
	built := filepath.Join(root, "bin", "clients")
	fmt.Fprintln(os.Stderr, "clients: building the drivers")
	here, versions, missing := prepare(ctx, sources, built, wanted)
	for _, m := range missing {
		fmt.Fprintln(os.Stderr, "clients: left out:", m)
	}
	dir, err := os.MkdirTemp("", "lockstep-clients-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	fmt.Fprintln(os.Stderr, "clients: starting two Envoys and two of lockstep-edge")
	s, err := newStage(ctx, dir)
	if err != nil {
		return err
	}
	defer s.close()
	all, err := s.travel(ctx, sources, built, here)
	if err != nil {
		return err
	}
	offers, err := s.offers(ctx, sources, built, here)
	if err != nil {
		return err
	}
	text := tables(time.Now(), s, versions, all, offers)
	fmt.Print(text)
	for _, o := range offers {
		if o.err != nil {
			fmt.Fprintf(os.Stderr, "clients: early data at %s: %v\n", s.kinds[o.kind].name, o.err)
		}
	}
	var failed []error
	for _, j := range all {
		if j.err != nil {
			failed = append(failed, j.err)
		}
	}
	if len(missing) > 0 {
		failed = append(failed, fmt.Errorf("%d of %d clients are missing", len(missing), len(wanted)))
	}
	if page != "" && len(failed) == 0 {
		failed = append(failed, write(page, text))
	}
	return errors.Join(failed...)
}

func chosen(only string) ([]client, error) {
	if only == "" {
		return clients, nil
	}
	var out []client
	for _, name := range strings.Split(only, ",") {
		i := slices.IndexFunc(clients, func(c client) bool { return strings.EqualFold(c.name, name) })
		if i < 0 {
			return nil, fmt.Errorf("no client is named %q", name)
		}
		out = append(out, clients[i])
	}
	return out, nil
}
