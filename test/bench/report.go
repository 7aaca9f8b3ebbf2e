package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

// row is a line of the table.
type row struct {
	what        string
	ours, stock string
	ratio       float64 // 0: none
	low, high   float64 // the ratios of single rounds
	must        string  // the limit in words
	short       bool    // it falls short of the limit
	note        string
}

// limit is what a ratio of medians must be.
type limit struct{ atMost, atLeast float64 }

func atMost(x float64) limit  { return limit{atMost: x} }
func atLeast(x float64) limit { return limit{atLeast: x} }

var reported limit // no limit

// compare makes a row of the figures of all rounds: medians, their ratio, and the ratios of the
// rounds as they came.
func compare(what string, ours, stock []float64, l limit, format func(float64) string) row {
	r := row{what: what, ours: format(median(ours)), stock: format(median(stock)), ratio: median(ours) / median(stock)}
	if all := ratios(ours, stock); len(all) > 1 {
		r.low, r.high = slices.Min(all), slices.Max(all)
	}
	return r.judge(l)
}

// paired is compare with the median of the rounds' ratios: for differences that are smaller than
// what a machine's pace changes by in a minute.
func paired(what string, ours, theirs []float64, l limit, format func(float64) string) row {
	r := compare(what, ours, theirs, reported, format)
	r.ratio = median(ratios(ours, theirs))
	return r.judge(l)
}

func ratios(ours, theirs []float64) (all []float64) {
	for i := range min(len(ours), len(theirs)) {
		all = append(all, ours[i]/theirs[i])
	}
	return all
}

// quantile is a row of the q-quantile of times in seconds, with their median.
func quantile(what string, all []float64, q, most float64) row {
	slices.Sort(all)
	at := all[min(int(q*float64(len(all))), len(all)-1)] * 1e3
	return row{what: what, ours: fmt.Sprintf("%.1f ms (%.1f ms)", at, median(all)*1e3)}.absolute(fmt.Sprintf("≤ %.0f ms", most), at > most)
}

// judge holds the row's ratio against a limit.
func (r row) judge(l limit) row {
	switch {
	case l.atMost > 0:
		return r.absolute(fmt.Sprintf("≤ %.2f ×", l.atMost), r.ratio > l.atMost)
	case l.atLeast > 0:
		return r.absolute(fmt.Sprintf("≥ %.3g ×", l.atLeast), r.ratio < l.atLeast)
	}
	return r
}

// absolute says what must be, and whether the row falls short of it.
func (r row) absolute(must string, short bool) row {
	r.must, r.short = must, short
	return r
}

func (r row) noted(format string, a ...any) row {
	r.note = fmt.Sprintf(format, a...)
	return r
}

func median(all []float64) float64 {
	all = slices.Sorted(slices.Values(all))
	if n := len(all); n%2 == 0 {
		return (all[n/2-1] + all[n/2]) / 2
	}
	return all[len(all)/2]
}

func inMS(s float64) string      { return fmt.Sprintf("%.0f ms", s*1e3) }
func inUS(s float64) string      { return fmt.Sprintf("%.1f µs", s*1e6) }
func inSeconds(s float64) string { return fmt.Sprintf("%.2f s", s) }
func inKB(b float64) string      { return fmt.Sprintf("%.1f KB", b/1024) }
func inMB(b float64) string      { return fmt.Sprintf("%.1f MB", b/(1<<20)) }
func perSecond(n float64) string { return fmt.Sprintf("%.0f/s", n) }

// String is the row as a line of a Markdown table.
func (r row) String() string {
	ratio, verdict := "", r.note
	if r.ratio > 0 {
		ratio = fmt.Sprintf("%.3g", r.ratio)
		if r.high > 0 {
			ratio += fmt.Sprintf(" (%.2f–%.2f)", r.low, r.high)
		}
	}
	switch {
	case r.short:
		verdict = strings.TrimSuffix("**short**; "+r.note, "; ")
	case r.must != "":
		verdict = strings.TrimSuffix("reached; "+r.note, "; ")
	}
	return fmt.Sprintf("| %s | %s | %s | %s | %s | %s |", r.what, r.ours, r.stock, ratio, r.must, verdict)
}

// report is all that was measured, and on what.
type report struct {
	began time.Time
	facts []string // at the beginning
	rows  []row
}

func (r *report) add(rows ...row) { r.rows = append(r.rows, rows...) }

// failed is an error if a line could not be measured. A figure that falls short is none.
func (r *report) failed() error {
	var errs []error
	for _, row := range r.rows {
		if strings.HasPrefix(row.note, "failed: ") {
			errs = append(errs, fmt.Errorf("%s %s", row.what, row.note))
		}
	}
	return errors.Join(errs...)
}

func (r *report) write(root, text string) error {
	return os.WriteFile(filepath.Join(root, "test", "bench", "RESULTS.md"), []byte(text), 0o644)
}

const preamble = `
Ours is lockstepd as it is built; stock is go-control-plane's LinearCache with delta streams, the
SDS service and default server options. Figures are medians; the ratio is that of the medians, in
brackets the least and greatest ratio of single rounds. Times begin with the HTTP request that
triggers the change, sent in the same way to both, and end when the last node has sent its ACK; a
push of ours is a burn, with its record written to disk and synced. The nodes of a push are clients
of grpc-go with Envoy's windows; they share the processors with the servers and use about half of
the time. Bare clients, a hand-made HTTP/2 that uses a third of that, are in the lines that say so,
and hold the other lines' connections. CPU is the server's own, until 0.3 s after the last ACK.
Memory is resident memory once it has come to rest, garbage included. The CPU of the three Envoys is
all that they used, divided by the handshakes; with TLS 1.3 each carries a request, as the ticket
comes with the first answer.

Lines of lockstep-edge: each server has one core (one worker, or GOMAXPROCS=1), and clients and
upstream have the other; all serve the same P-256 certificate, without access logs, and take turns;
the ratio is the median of those of single rounds. Handshakes are TLS 1.3 with X25519, each on a
connection of its own that is ended after it, and CPU is all that the server used for it. Where a
server did not use all of its core, the clients or other work on the machine limited the rate, and
the CPU of each request tells more. Idle connections have carried a request. **short** marks a
figure that does not reach what it must.

| | ours | stock | ratio | must be | |
|---|---|---|---|---|---|
`

// text is the report as Markdown.
func (r *report) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Speed\n\nMade by `%s` on %s in %s.\n\n", command(), r.began.UTC().Format("2006-01-02 15:04 UTC"), time.Since(r.began).Round(time.Second))
	for _, fact := range r.facts {
		fmt.Fprintf(&b, "- %s\n", fact)
	}
	b.WriteString(preamble)
	for _, row := range r.rows {
		fmt.Fprintln(&b, row)
	}
	return b.String()
}

// command is what a reader types to get these figures.
func command() string {
	if len(os.Args) == 1 {
		return "make bench"
	}
	return "go run ./test/bench " + strings.Join(os.Args[1:], " ")
}

// facts is the machine, how busy others keep it, and the versions.
func facts() []string {
	return []string{
		fmt.Sprintf("machine: %d cores (%s), %s memory, Linux %s", runtime.NumCPU(), firstField("/proc/cpuinfo", "model name"),
			firstField("/proc/meminfo", "MemTotal"), oneLine(os.ReadFile("/proc/sys/kernel/osrelease"))),
		fmt.Sprintf("Lockstep %s, %s, grpc %s, go-control-plane %s, Envoy %s", revision(), runtime.Version(),
			version("google.golang.org/grpc"), version("github.com/envoyproxy/go-control-plane"), envoyVersion()),
		"load average before the first line: " + oneLine(os.ReadFile("/proc/loadavg")),
	}
}

// firstField is the value of the first "name: value" in a file.
func firstField(path, name string) string {
	b, _ := os.ReadFile(path)
	for line := range strings.Lines(string(b)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return "?"
}

func oneLine(b []byte, err error) string {
	if err != nil {
		return "?"
	}
	line, _, _ := strings.Cut(string(b), "\n")
	return line
}

// revision is the commit of the checkout, and whether something was changed since.
func revision() string {
	commit := oneLine(exec.Command("git", "rev-parse", "--short", "HEAD").Output())
	if changed, err := exec.Command("git", "status", "--porcelain", "--untracked-files=no").Output(); err == nil && len(changed) > 0 {
		commit += " with changes"
	}
	return commit
}

// version is that of a module this binary was built with.
func version(module string) string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			if m.Path == module {
				return m.Version
			}
		}
	}
	return "?"
}

// envoyVersion is from "…/envoy  version: commit/1.40.0/Clean/RELEASE/BoringSSL".
func envoyVersion() string {
	path, err := fleet.EnvoyPath()
	if err != nil {
		return "?"
	}
	out, _ := exec.Command(path, "--version").Output()
	_, words, _ := strings.Cut(string(out), "version: ")
	if parts := strings.Split(words, "/"); len(parts) > 1 {
		return parts[1]
	}
	return "?"
}
