// Compat tries Lockstep on real Envoys of several versions: rotation, on demand, hybrid, what an
// ACK is worth, the corpus of certificates, and one fleet of all versions. It prints what it saw
// as a table; docs/compat.md is the last one. It exits with 0 if rotations and resumption work on
// every version, and if `lockstep bootstrap` refuses what was seen not to work, and nothing else.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

// bound ends the whole run.
const bound = 12 * time.Minute

func main() {
	page := flag.String("page", "", "write the table to this `file`, too")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(),
			"usage: go run ./test/compat [-page FILE] VERSION...   # installed by test/install-envoy VERSION...")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() == 0 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	if err := run(ctx, flag.Args(), *page); err != nil {
		fmt.Fprintln(os.Stderr, "compat:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, versions []string, page string) error {
	began := time.Now()
	say := func(format string, a ...any) {
		fmt.Printf("%4.0fs  %s\n", time.Since(began).Seconds(), fmt.Sprintf(format, a...))
	}
	root, err := fleet.Root()
	if err != nil {
		return err
	}
	bin, err := fleet.Build(ctx, "lockstepd", "lockstep")
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "lockstep-compat-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	r := report{Day: began, System: runtime.GOOS + "/" + runtime.GOARCH, CPUs: runtime.NumCPU()}
	for _, v := range versions {
		binary := filepath.Join(root, ".envoy", v, "envoy")
		if _, err := os.Stat(binary); err != nil {
			return fmt.Errorf("no Envoy %s is installed: type: test/install-envoy %s (%w)", v, v, err)
		}
		row := row{Version: v, binary: binary, Cells: map[column]cell{}}
		if err := tryOne(ctx, filepath.Join(dir, v), bin, &row,
			func(c column) { say("Envoy %s: %s: %s", v, c, row.Cells[c].text()) }); err != nil {
			return fmt.Errorf("on Envoy %s: %w", v, err)
		}
		r.Rows = append(r.Rows, row)
	}
	if err := tryMixed(ctx, filepath.Join(dir, "mixed"), bin, &r); err != nil {
		return fmt.Errorf("mixed fleet: %w", err)
	}
	for _, row := range r.Rows {
		say("Envoy %s: %s: %s", row.Version, mixed, row.Cells[mixed].text())
	}
	text := r.markdown()
	fmt.Printf("\n%s\n", text)
	if page != "" {
		if err := os.WriteFile(page, text, 0o644); err != nil {
			return err
		}
		say("written to %s", page)
	}
	return errors.Join(r.verdict(), agree(ctx, bin, r))
}

// tryOne fills the cells of one version, all but that of the mixed fleet.
func tryOne(ctx context.Context, dir, bin string, r *row, done func(column)) error {
	s, err := setUp(ctx, dir, bin)
	if err != nil {
		return err
	}
	defer s.close()
	for _, part := range []struct {
		column column
		try    func(context.Context, *stage, *row) (cell, error)
	}{
		{rotates, tryRotation}, {onDemand, tryOnDemand}, {hybrid, tryHybrid},
		{falseACK, tryFalseACK}, {corpus, tryCorpus},
	} {
		c, err := part.try(ctx, s, r)
		if err != nil {
			return fmt.Errorf("%s: %w", part.column, err)
		}
		r.Cells[part.column] = c
		done(part.column)
	}
	return nil
}
