package main

import (
	"context"
	"encoding/json"
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
	"github.com/lockstep-tls/lockstep/test/bench/orders"
	"github.com/lockstep-tls/lockstep/test/bench/swarm"
	"github.com/lockstep-tls/lockstep/test/bench/visit"
	"github.com/lockstep-tls/lockstep/test/fleet"
)

const (
	ring        = "tickets/default"
	certPattern = "n%06d.bench.example"
	patience    = 2 * time.Minute // for anything that takes seconds on a good day
)

// certName is the i-th certificate's name.
func certName(i int) string { return fmt.Sprintf(certPattern, i) }

// bench is what the lines share.
type bench struct {
	*report
	ctx    context.Context // of the whole run
	root   string          // of the checkout
	self   string          // this binary
	bin    string          // the folder of the programs that are measured
	fleet  *fleet.Fleet
	quick  bool
	begin  time.Time
	ca     *fleet.CA
	pair   fleet.Pair // one certificate for every name under bench.example
	count  int        // names processes and folders
	big    string     // see bigData
	huge   string     // see hugeData
	finish []func()   // ends the workers of the present line
}

var programs = []string{"lockstepd", "lockstep", "lockstep-edge"}

// setUp builds the programs and makes what all lines use. They are copied, since others may build
// while this runs.
func (b *bench) setUp() {
	b.begin, b.root, b.self = time.Now(), must(fleet.Root()), must(os.Executable())
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
	b.pair = b.issue()
}

// issue makes another certificate for every name. Its chain is as long as a public CA's: two
// certificates.
func (b *bench) issue() fleet.Pair {
	p := must(b.ca.Issue(fleet.Leaf{Names: []string{"*.bench.example"}}))
	p.Chain = append(p.Chain, b.ca.PEM()...)
	return p
}

func (b *bench) close() {
	if b.fleet == nil {
		return
	}
	if err := errors.Join(b.end(), os.RemoveAll(b.fleet.Dir())); err != nil {
		b.say("%v", err)
	}
}

// end ends every worker and kills every server, so that what comes next has the machine to itself.
func (b *bench) end() error {
	for _, f := range b.finish {
		f()
	}
	b.finish = nil
	return b.fleet.Close()
}

// stepFailed carries the error of a step out of its line.
type stepFailed struct{ error }

// check ends the line if a step failed. It may be called on the line's own goroutine only, and so
// may must and all that is built on them.
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
		switch r := recover().(type) {
		case nil:
		case stepFailed:
			err = r.error
		default:
			panic(r)
		}
	}()
	f()
	return nil
}

// explained adds the end of a server's log to an error.
func explained(err error, p *fleet.Process) error {
	if err != nil {
		err = fmt.Errorf("%s: %w; its log ends:\n%s", p.Name(), err, p.LogTail(10))
	}
	return err
}

func (b *bench) say(format string, a ...any) {
	fmt.Fprintf(os.Stderr, "%7.1fs  %s\n", time.Since(b.begin).Seconds(), fmt.Sprintf(format, a...))
}

// size is n, or less in a quick run.
func (b *bench) size(n, quick int) int {
	if b.quick {
		return quick
	}
	return n
}

// fresh is a name, or a file or folder of the run, that was not there before.
func (b *bench) fresh(prefix string) string {
	b.count++
	return fmt.Sprintf("%s-%d", prefix, b.count)
}

func (b *bench) folder(prefix string) string {
	dir := filepath.Join(b.fleet.Dir(), b.fresh(prefix))
	check(os.MkdirAll(dir, 0o700))
	return dir
}

func (b *bench) sleep(d time.Duration) {
	select {
	case <-time.After(d):
	case <-b.ctx.Done():
		check(b.ctx.Err())
	}
}

// until waits until f returns nil.
func (b *bench) until(f func() error) {
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	check(fleet.Until(ctx, f))
}

func (b *bench) ready(p *fleet.Process) {
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	check(p.Ready(ctx))
}

// listening waits until somebody listens on addr.
func (b *bench) listening(addr string) {
	b.until(func() error {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			return fmt.Errorf("nobody listens on %s: %w", addr, err)
		}
		return conn.Close()
	})
}

func newAddr() string { return must(fleet.Addr()) }

// The servers of the edge's lines have a core, and clients and upstream have another.
const serverCore, clientCore = "0", "1"

// oneCore is the environment of a Go program that has one.
var oneCore = []string{"GOMAXPROCS=1"}

// role starts this binary in another role, with a configuration as JSON; on one core, unless core
// is "".
func (b *bench) role(name string, config any, core, ready string) *fleet.Process {
	c := fleet.Command{Name: b.fresh(name), Path: b.self, Args: []string{name, string(must(json.Marshal(config)))}, Ready: ready}
	if core != "" {
		c.Path, c.Args, c.Env = "taskset", append([]string{"-c", core, b.self}, c.Args...), oneCore
	}
	return must(b.fleet.Start(c))
}

// crowd is a process of nodes.
type crowd struct {
	*orders.Worker[swarm.Command, swarm.Reply]
}

func (b *bench) crowd() *crowd {
	return &crowd{worker[swarm.Command, swarm.Reply](b, exec.Command(b.self, "swarm"))}
}

func (c *crowd) do(cmd swarm.Command) swarm.Reply {
	if cmd.Timeout == 0 {
		cmd.Timeout = patience
	}
	cmd.Ring = ring
	return must(c.Do(cmd))
}

// join connects nodes to p, one after the other, each asking for the ring and so many certificates.
func (c *crowd) join(p *plane, nodes, certs int, grpc bool) {
	want := []string{ring}
	for i := range certs {
		want = append(want, certName(i))
	}
	c.do(swarm.Command{Op: "connect", Set: p.name, Addr: p.xds, Nodes: nodes, Names: want, Parallel: 32, GRPC: grpc})
}

// visitors is a process of clients, on their core.
type visitors = orders.Worker[visit.Command, visit.Reply]

func (b *bench) visitors() *visitors {
	cmd := exec.Command("taskset", "-c", clientCore, b.self, "visit")
	cmd.Env = append(os.Environ(), oneCore...)
	return worker[visit.Command, visit.Reply](b, cmd)
}

func worker[C, R any](b *bench, cmd *exec.Cmd) *orders.Worker[C, R] {
	cmd.Stderr = os.Stderr
	w := must(orders.Start[C, R](cmd))
	b.finish = append(b.finish, w.Close)
	return w
}

// data makes a data directory for a lockstepd with so many certificates in its store.
func (b *bench) data(certs int) string {
	return b.dataOf(certs, func(int) ([]byte, []byte) { return b.pair.Chain, b.pair.Key })
}

// dataOf is data with certificates (chain and key, PEM) of the caller's.
func (b *bench) dataOf(certs int, cert func(int) (chain, key []byte)) string {
	begin, dir := time.Now(), b.folder("data")
	sealer := must(seal.Create(filepath.Join(dir, "sealing.key")))
	db := must(bolt.Open(filepath.Join(dir, "store.db")))
	defer func() { check(db.Close()) }()
	c := catalog.New(catalog.Config{Store: guard.Sealed(db, sealer)})
	for i := 0; i < certs; {
		var some []catalog.Pair
		for ; i < certs && len(some) < 4096; i++ {
			chain, key := cert(i)
			some = append(some, catalog.Pair{Name: keysource.Name(certName(i)), PEM: keysource.PEM{Chain: chain, Key: key}})
		}
		for _, o := range must(c.PutAll(b.ctx, some)) {
			check(o.Err)
		}
	}
	if certs > 1000 {
		b.say("a store of %d certificates was made in %.1fs", certs, time.Since(begin).Seconds())
	}
	return dir
}

// bigData is one with 100 000 certificates, made once in a run; only one lockstepd at a time may
// use it.
func (b *bench) bigData() string {
	if b.big == "" {
		b.big = b.data(b.size(100_000, 2000))
	}
	return b.big
}

// hugeData is one with a million certificates: the one into which they were imported, or one that
// is made.
func (b *bench) hugeData(n int) string {
	if b.huge == "" {
		b.huge = b.data(n)
	}
	return b.huge
}
