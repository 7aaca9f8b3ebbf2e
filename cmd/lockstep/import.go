package main

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/cmd/internal/archive"
	"github.com/lockstep-tls/lockstep/keysource"
)

// imported is what cert import prints.
type imported struct {
	Stored int `json:"stored"` // Stored counts those that are in the store now.
	// Same counts those of Stored that were there already.
	Same   int `json:"same"`
	Failed int `json:"failed"`
	// Failures are the first of Failed, maxFailures at most.
	Failures []api.ImportFailed `json:"failures"`
	// Notes say what of stored certificates was put in order, maxFailures at most.
	Notes []api.ImportNote `json:"notes,omitempty"`
	// Warnings say what of stored certificates looks worse than before, maxFailures at most.
	Warnings []api.ImportNote `json:"warnings,omitempty"`
}

const (
	// importPairs and importBytes are about the size of one request.
	importPairs = 2048
	importBytes = 8 << 20
	// importAtOnce is how many requests are under way, so that lockstepd checks one while it writes
	// another.
	importAtOnce = 6
	// windowPairs and windowBytes are how much is put in order before it is sent. So the names of
	// one request lie close together in the store.
	windowPairs = 16 * importPairs
	windowBytes = 8 * importBytes
	importFor   = 2 * time.Hour
	// maxFailures is how many failures are kept for -o json. Standard error names all of them.
	maxFailures = 1000
)

func (a *app) certImportCommand() *cobra.Command {
	return &cobra.Command{
		Use: "import DIR | FILE.tar | -",
		Short: "Store many certificates: <server name>/tls.crt and <server name>/tls.key, from a directory, a tar " +
			"archive or standard input",
		Long: "Store many certificates, laid out as <server name>/tls.crt (chain, PEM, leaf first) and <server " +
			"name>/tls.key (PEM), in a\n" +
			"directory or a tar archive; - reads an archive from standard input. A wildcard's folder is " +
			"_.example.com.\n" +
			"The folders of certbot (live), acme.sh and Caddy, the files of lego, and files with chain and key are " +
			"taken as they are.\n" +
			"lockstepd checks each. A bad one is named, the others are stored, and the exit code is 1.\n" +
			"It can be run again after whatever interrupted it: what is stored already, and equal, is passed over " +
			"quickly.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var done imported
			err := a.call(cmd, importFor, func(ctx context.Context, c *api.Client) (err error) {
				if done, err = a.importAll(ctx, c, args[0]); err != nil {
					return fmt.Errorf("%w (%d stored before; it can be run again)", err, done.Stored)
				}
				return nil
			})
			if err != nil {
				return err
			}
			if done.Stored+done.Failed == 0 {
				return fmt.Errorf(
					"%s holds no certificates: they should be <server name>/tls.crt and <server name>/tls.key", args[0])
			}
			if err := show(a, done, importTable); err != nil {
				return err
			}
			if done.Failed > 0 {
				return fail(exitFailed, "%d of %d certificates were not stored", done.Failed, done.Failed+done.Stored)
			}
			return nil
		},
	}
}

func importTable(w io.Writer, done imported) {
	fmt.Fprintf(w, "%d stored, %d failed", done.Stored, done.Failed)
	if done.Same > 0 {
		fmt.Fprintf(w, "; %d were there already", done.Same)
	}
	fmt.Fprintln(w)
}

// importAll passes over bad certificates. It ends when nothing more can be stored or read.
func (a *app) importAll(ctx context.Context, c *api.Client, from string) (imported, error) {
	total := &importTotal{a: a, progress: newProgress(a.err), done: imported{Failures: []api.ImportFailed{}}}
	defer total.progress.clear()
	g, going := errgroup.WithContext(ctx)
	g.SetLimit(importAtOnce)
	var broken error
	var window batch
	send := func(b batch) {
		g.Go(func() error {
			body, err := b.archive()
			if err != nil {
				return err
			}
			sum, err := c.ImportCerts(going, body)
			if err == nil {
				total.add(sum)
			}
			return err
		})
	}
	for p, err := range a.pairs(from) {
		if broken = err; broken != nil || going.Err() != nil {
			break
		}
		if p.Err != nil { // it cannot be sent
			total.add(api.Imported{Failed: []api.ImportFailed{{Folder: p.Folder, Error: p.Err.Error()}}})
			continue
		}
		if window.full(windowPairs, windowBytes) && !window.follows(p) {
			window.cut(send)
		}
		window.add(p)
	}
	if going.Err() == nil {
		window.cut(send)
	}
	if err := g.Wait(); err != nil {
		return total.done, err
	}
	return total.done, errors.Join(broken, ctx.Err())
}

// pairs yields the folders of a directory, of an archive, or of an archive on standard input ("-").
// It ends at the first error.
func (a *app) pairs(from string) iter.Seq2[archive.Pair, error] {
	if from == "-" {
		return archive.Tar(a.in, "standard input")
	}
	return func(yield func(archive.Pair, error) bool) {
		f, err := os.Open(from)
		if err != nil {
			yield(archive.Pair{}, err)
			return
		}
		defer f.Close()
		all := archive.Tar(f, from)
		if fi, err := f.Stat(); err != nil {
			yield(archive.Pair{}, err)
			return
		} else if fi.IsDir() {
			all = archive.Dir(f)
		}
		all(yield)
	}
}

// batch is what one request brings, or a window that is to be cut into requests.
type batch struct {
	pairs []archive.Pair
	size  int
}

func (b *batch) add(p archive.Pair) {
	b.pairs = append(b.pairs, p)
	b.size += p.Size()
}

func (b *batch) full(pairs, size int) bool { return len(b.pairs) >= pairs || b.size >= size }

// cut sends the pairs of b in the order of their folders, and leaves b empty. Two pairs of one
// folder keep their order. The second certificate of a host follows the first, in one request with
// it: lockstepd takes it with the first only, and requests may overtake each other.
func (b *batch) cut(send func(batch)) {
	slices.SortStableFunc(b.pairs, func(x, y archive.Pair) int {
		return cmp.Or(cmp.Compare(hostFolder(x), hostFolder(y)), strings.Compare(x.Folder, y.Folder))
	})
	var next batch
	for _, p := range b.pairs {
		if next.full(importPairs, importBytes) && !next.follows(p) {
			send(next)
			next = batch{}
		}
		next.add(p)
	}
	if len(next.pairs) > 0 {
		send(next)
	}
	*b = batch{}
}

// hostFolder returns the folder of the host whose certificate p is.
func hostFolder(p archive.Pair) keysource.Name { return keysource.Name(p.Folder).Host() }

// follows reports whether p is the second certificate of the host of the last pair of b.
func (b *batch) follows(p archive.Pair) bool {
	return keysource.Name(p.Folder).IsSecond() && len(b.pairs) > 0 &&
		hostFolder(p) == keysource.Name(b.pairs[len(b.pairs)-1].Folder)
}

func (b *batch) archive() (io.Reader, error) {
	var out bytes.Buffer
	out.Grow(b.size + 2048*len(b.pairs) + 1024) // a header and padding for each file
	w := tar.NewWriter(&out)
	for _, p := range b.pairs {
		if err := p.Write(w); err != nil {
			return nil, err
		}
	}
	return &out, w.Close()
}

// importTotal adds up the answers to all requests.
type importTotal struct {
	a        *app
	mu       sync.Mutex
	progress *progress
	done     imported
}

func (t *importTotal) add(sum api.Imported) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.done.Stored += sum.Stored
	t.done.Same += sum.Same
	t.done.Failed += len(sum.Failed)
	for _, f := range sum.Failed {
		t.progress.clear()
		fmt.Fprintf(t.a.err, "%s: %s\n", legible(f.Folder), strings.Map(oneLine, f.Error))
		if len(t.done.Failures) < maxFailures {
			t.done.Failures = append(t.done.Failures, f)
		}
	}
	t.say("note", &t.done.Notes, sum.Notes)
	t.say("warning", &t.done.Warnings, sum.Warnings)
	if n := t.done.Stored; n > 0 {
		t.progress.count(fmt.Sprintf("%d stored, %d failed", n, t.done.Failed), n+t.done.Failed)
	}
}

// say prints notes or warnings, and keeps the first of them.
func (t *importTotal) say(what string, kept *[]api.ImportNote, all []api.ImportNote) {
	for _, n := range all {
		t.progress.clear()
		fmt.Fprintf(t.a.err, "%s: %s: %s\n", legible(n.Folder), what, strings.Map(oneLine, n.Note))
		if len(*kept) < maxFailures {
			*kept = append(*kept, n)
		}
	}
}
