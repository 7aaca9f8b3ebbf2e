package main

import (
	"archive/tar"
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

// importMany is the time that lockstep cert import takes, from exec to its end, to bring an archive
// of certificates in an order of their own into the embedded store and into Redis. CLI and server
// share the processors. Then the same again, where all is stored already.
func importMany(b *bench) {
	n, begin := b.size(1_000_000, 20_000), time.Now()
	file := filepath.Join(b.fleet.Dir(), "leaves.tar")
	defer os.Remove(file)
	b.archive(file, n)
	b.say("%d certificates, each with its CA's, were made in %.1fs", n, time.Since(begin).Seconds())
	both := func(to string, within float64, p *plane) {
		took, usage := b.importOnce(p, file, n)
		b.add(single(inSeconds(took), "import of %d certificates into %s", n, to).
			absolute(fmt.Sprintf("≤ %.0f s", within), took > within).noted("%s", usage))
		took, usage = b.importOnce(p, file, n)
		b.add(single(inSeconds(took), "— again, when all are stored").noted("%s", usage))
		check(b.fleet.Close()) // what comes next has the machine to itself
	}
	data := b.folder("huge")
	both("the embedded store", 60, b.ours(data))
	b.kept[n] = data
	both("Redis", 120, b.shared().replica("import"))
}

// importOnce imports n certificates. It says how long that took and what it used.
func (b *bench) importOnce(p *plane, file string, n int) (seconds float64, usage string) {
	cli := filepath.Join(b.bin, "lockstep")
	cmd := exec.CommandContext(b.ctx, cli, "--data-dir", p.Data, "cert", "import", file, "-o", "json")
	cmd.Stderr = os.Stderr
	var out []byte
	cpu := cpuOf(p.PID())
	peak := peakOf(p.PID(), func() {
		begin := time.Now()
		out = must(cmd.Output())
		seconds = time.Since(begin).Seconds()
	})
	var done struct{ Stored, Failed int }
	if err := json.Unmarshal(out, &done); err != nil || done.Stored != n || done.Failed != 0 {
		check(fmt.Errorf("%d of %d stored, %d failed (%v)", done.Stored, n, done.Failed, err))
	}
	own := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	return seconds, fmt.Sprintf("CPU %.1f s of the server and %.1f s of the CLI; at most %s in the server's memory, "+
		"mapped pages of the store included", cpuOf(p.PID())-cpu, own.Seconds(), inMB(peak))
}

// scatter is prime to every size here: i*scatter mod n visits all names in an order that has
// nothing to do with theirs.
const scatter = 7_368_787

// archive writes n certificates, each of its own name, key and serial number, with their CA's.
func (b *bench) archive(file string, n int) {
	f := must(os.Create(file))
	buffered := bufio.NewWriterSize(f, 1<<20)
	w := tar.NewWriter(buffered)
	for i := range n {
		check(b.ctx.Err())
		name := certName(i * scatter % n)
		p := b.issue(name)
		for part, content := range map[string][]byte{"tls.crt": p.Chain, "tls.key": p.Key} {
			check(w.WriteHeader(&tar.Header{Name: name + "/" + part, Size: int64(len(content)), Mode: 0o600}))
			must(w.Write(content))
		}
	}
	check(errors.Join(w.Close(), buffered.Flush(), f.Close()))
}

// start is how long lockstepd takes from exec until /readyz says yes and nodes can connect, and the
// memory that it holds then.
func start(b *bench) {
	many := b.size(1_000_000, 20_000)
	dirs := []string{b.keptData(many), b.data(10)}
	var times, memory figures
	for range 5 {
		for side, data := range dirs {
			begin := time.Now()
			p := b.lockstepd("lockstepd", fleet.Lockstepd{Data: data})
			served := func() error { return errors.Join(p.call(http.MethodGet, "/readyz", nil, nil), reach(p.XDS)) }
			for err := served(); err != nil; err = served() {
				if time.Since(begin) > patience {
					check(err)
				}
				time.Sleep(time.Millisecond)
			}
			times.add(side, time.Since(begin).Seconds())
			memory.add(side, b.settled(p.Process))
			check(p.Kill())
		}
	}
	b.add(
		compare(times, reported, inMS, "lockstepd's start with %d certificates, against one with ten", many).
			absolute("≤ 1 s", median(times[0]) > 1),
		compare(memory, atMost(1.2), inMB, "— memory before any request"),
	)
}
