package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/keysource"
)

// imported is what cert import prints.
type imported struct {
	Imported []string `json:"imported"` // names
	Failed   []failed `json:"failed"`
}

type failed struct {
	Folder string `json:"folder"`
	Error  string `json:"error"`
}

const (
	importAtOnce = 8 // enough to share the store's syncs
	importFor    = 30 * time.Minute
)

func (a *app) certImportCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "import DIR | FILE.tar | -",
		Short: "Store many certificates: <server name>/tls.crt and <server name>/tls.key, from a directory, a tar archive or standard input",
		Long: "Store many certificates, laid out as <server name>/tls.crt (chain, PEM, leaf first) and <server name>/tls.key (PEM), in a\n" +
			"directory or a tar archive; - reads an archive from standard input. A wildcard's folder is _.example.com.\n" +
			"A bad one is named, the others are stored, and the exit code is 1.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.writer()
			if err != nil {
				return err
			}
			ctx, cancel := a.within(cmd, importFor)
			defer cancel()
			done, err := a.importAll(ctx, c, args[0])
			if err != nil {
				return fmt.Errorf("%w (%d stored before; it can be run again)", err, len(done.Imported))
			}
			if len(done.Imported)+len(done.Failed) == 0 {
				return fmt.Errorf("%s holds no certificates: they should be <server name>/tls.crt and <server name>/tls.key", args[0])
			}
			if err := a.show(done, func(w io.Writer) { fmt.Fprintf(w, "%d stored, %d failed\n", len(done.Imported), len(done.Failed)) }); err != nil {
				return err
			}
			if len(done.Failed) > 0 {
				return fail(exitFailed, "%d of %d certificates were not stored", len(done.Failed), len(done.Failed)+len(done.Imported))
			}
			return nil
		},
	}
}

// importAll goes on after what is bad, and ends where nothing more can be stored or read.
func (a *app) importAll(ctx context.Context, c *api.Client, from string) (imported, error) {
	done := imported{Imported: []string{}, Failed: []failed{}}
	var mu sync.Mutex
	g, going := errgroup.WithContext(ctx)
	g.SetLimit(importAtOnce)
	var broken error
	for p, err := range a.pairs(from) {
		if err != nil {
			broken = err
			break
		}
		if going.Err() != nil {
			break
		}
		g.Go(func() error {
			name, err := store(going, c, p)
			mu.Lock()
			defer mu.Unlock()
			switch answer := (*api.Error)(nil); {
			case err == nil:
				done.Imported = append(done.Imported, name)
				return nil
			case errors.Is(err, api.ErrUnreachable), going.Err() != nil, errors.As(err, &answer) && answer.Code == api.Denied:
				return err
			}
			fmt.Fprintf(a.err, "%s: %v\n", p.folder, err)
			done.Failed = append(done.Failed, failed{p.folder, err.Error()})
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return done, err
	}
	return done, errors.Join(broken, ctx.Err())
}

func store(ctx context.Context, c *api.Client, p pair) (string, error) {
	if p.err != nil {
		return "", p.err
	}
	name := p.folder
	if rest, ok := strings.CutPrefix(name, "_."); ok {
		name = "*." + rest
	} else if strings.HasPrefix(name, "*") {
		return "", errors.New("a wildcard's folder is written _.example.com")
	}
	n, err := keysource.ServerName(name)
	if err != nil {
		return "", err
	}
	if err := check(n, p.PutCert); err != nil {
		return "", err
	}
	_, err = c.PutCert(ctx, string(n), p.PutCert)
	return string(n), err
}
