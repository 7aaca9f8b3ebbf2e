package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/keysource/catalog"
	"github.com/lockstep-tls/lockstep/seal"
	"github.com/lockstep-tls/lockstep/store/bolt"
	"github.com/lockstep-tls/lockstep/store/guard"
	"github.com/lockstep-tls/lockstep/test/fleet"
)

const (
	ring        = "tickets/default"
	certPattern = "n%06d.bench.example"
	patience    = 2 * time.Minute // patience is for anything that takes seconds on a good day.
)

// certName is the i-th certificate's name.
func certName(i int) string { return fmt.Sprintf(certPattern, i) }

// bench is what the lines share.
type bench struct {
	ctx   context.Context // of the whole run
	quick bool
	began time.Time
	facts []string
	rows  []row
	root  string // root is the checkout.
	self  string // self is this binary.
	bin   string // bin is the folder of the programs that are measured.
	fleet *fleet.Fleet
	ca    *fleet.CA
	pair  fleet.Pair     // pair is one certificate for every name under bench.example.
	count int            // count names processes and folders.
	kept  map[int]string // kept is what keptData made, by the number of certificates.
}

var programs = []string{"lockstepd", "lockstep", "lockstep-edge"}

// setUp builds the programs and makes what all lines use. It copies the programs, since others may
// build while this runs.
func (b *bench) setUp() {
	b.facts, b.root, b.self = facts(), must(fleet.Root()), must(os.Executable())
	build := fleet.BuildReleased
	if b.quick {
		build = fleet.Build
	}
	built := must(build(b.ctx, programs...))
	b.fleet = must(fleet.New(must(os.MkdirTemp("", "lockstep-bench-"))))
	b.bin = b.folder("bin")
	for _, p := range programs {
		check(os.WriteFile(filepath.Join(b.bin, p), must(os.ReadFile(filepath.Join(built, p))), 0o755))
	}
	b.ca = must(fleet.NewCA("Lockstep bench CA"))
	b.pair = b.issue("*.bench.example")
}

// issue makes a certificate. Its chain is as long as a public CA's: two certificates.
func (b *bench) issue(name string) fleet.Pair {
	p := must(b.ca.Issue(fleet.Leaf{Names: []string{name}, Valid: 90 * 24 * time.Hour}))
	p.Chain = append(p.Chain, b.ca.PEM()...)
	return p
}

func (b *bench) close() {
	if b.fleet == nil {
		return
	}
	if err := errors.Join(b.fleet.Close(), os.RemoveAll(b.fleet.Dir())); err != nil {
		b.say("%v", err)
	}
}

// stepFailed carries the error of a step out of its line.
type stepFailed struct{ error }

// check ends the line if a step failed. Only the goroutine that called attempt may call it, must,
// or what is built on them.
func check(err error) {
	if err != nil {
		panic(stepFailed{err})
	}
}

func must[T any](v T, err error) T {
	check(err)
	return v
}

// attempt calls f and returns the error of the step that failed.
func attempt(f func()) (err error) {
	defer func() {
		r := recover()
		failed, ok := r.(stepFailed)
		if r != nil && !ok {
			panic(r)
		}
		err = failed.error
	}()
	f()
	return nil
}

func (b *bench) say(format string, a ...any) {
	fmt.Fprintf(os.Stderr, "%7.1fs  %s\n", time.Since(b.began).Seconds(), fmt.Sprintf(format, a...))
}

// size is n, or less in a quick run.
func (b *bench) size(n, quick int) int {
	if b.quick {
		return quick
	}
	return n
}

// fresh is a name that was not given before.
func (b *bench) fresh(prefix string) string {
	b.count++
	return fmt.Sprintf("%s-%d", prefix, b.count)
}

func (b *bench) folder(prefix string) string {
	dir := filepath.Join(b.fleet.Dir(), b.fresh(prefix))
	check(os.MkdirAll(dir, 0o700))
	return dir
}

// file writes a file of that name into a folder of its own.
func (b *bench) file(name string, content []byte) (path string) {
	path = filepath.Join(b.folder(name), name)
	check(os.WriteFile(path, content, 0o600))
	return path
}

// output runs a program in the checkout and returns what it wrote.
func (b *bench) output(program string, args ...string) string {
	cmd := exec.CommandContext(b.ctx, program, args...)
	cmd.Dir = b.root
	out, err := cmd.CombinedOutput()
	if err != nil {
		check(fmt.Errorf("%s: %w\n%s", cmd, err, out))
	}
	return string(out)
}

func (b *bench) sleep(d time.Duration) {
	time.Sleep(d)
	check(b.ctx.Err())
}

// soon waits for something that takes seconds on a good day.
func (b *bench) soon(wait func(context.Context) error) {
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	check(wait(ctx))
}

// until waits until f returns nil.
func (b *bench) until(f func() error) {
	b.soon(func(ctx context.Context) error { return fleet.Until(ctx, f) })
}

// reach makes a connection to addr and closes it.
func reach(addr string) error {
	conn, err := net.Dial("tcp", addr)
	if err == nil {
		err = conn.Close()
	}
	return err
}

// listening waits until somebody listens on addr.
func (b *bench) listening(addr string) { b.until(func() error { return reach(addr) }) }

func newAddr() string { return must(fleet.Addr()) }

// data makes a data directory for a lockstepd with so many certificates in its store.
func (b *bench) data(certs int) string {
	return b.dataOf(certs, func(string) fleet.Pair { return b.pair })
}

// dataOf is data with the certificates that pair makes.
func (b *bench) dataOf(certs int, pair func(name string) fleet.Pair) string {
	dir := b.folder("data")
	sealer := must(seal.Create(filepath.Join(dir, "sealing.key")))
	db := must(bolt.Open(filepath.Join(dir, "store.db")))
	defer func() { check(db.Close()) }()
	c := catalog.New(catalog.Config{Store: guard.Sealed(db, sealer)})
	for i := 0; i < certs; {
		var some []catalog.Pair
		for ; i < certs && len(some) < 4096; i++ {
			some = append(some, catalog.Pair{Name: keysource.Name(certName(i)), PEM: keysource.PEM(pair(certName(i)))})
		}
		for _, o := range must(c.PutAll(b.ctx, some)) {
			check(o.Err)
		}
	}
	return dir
}

// keptData is data that is made once in a run. One lockstepd at a time may use it.
func (b *bench) keptData(certs int) string {
	if b.kept[certs] == "" {
		b.kept[certs] = b.data(certs)
	}
	return b.kept[certs]
}
