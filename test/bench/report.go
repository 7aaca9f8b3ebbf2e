package main

import (
	_ "embed"
	"fmt"
	"os"
	"os/exec"
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

// figures are what the rounds measured on each of two sides.
type figures [2][]float64

func (f *figures) add(side int, x float64) { f[side] = append(f[side], x) }

// ratios are those of the single rounds.
func (f figures) ratios() (all []float64) {
	for i := range min(len(f[0]), len(f[1])) {
		all = append(all, f[0][i]/f[1][i])
	}
	return all
}

func median(all []float64) float64 {
	all = slices.Sorted(slices.Values(all))
	n := len(all)
	return (all[(n-1)/2] + all[n/2]) / 2
}

// limit holds a row's ratio against what it must be. A limit that is nil asks for nothing.
type limit func(row) row

func atMost(x float64) limit {
	return func(r row) row { return r.absolute(fmt.Sprintf("≤ %.2f ×", x), r.ratio > x) }
}

func atLeast(x float64) limit {
	return func(r row) row { return r.absolute(fmt.Sprintf("≥ %.3g ×", x), r.ratio < x) }
}

var reported limit

// unit writes a figure.
type unit func(float64) string

func inMS(s float64) string      { return fmt.Sprintf("%.0f ms", s*1e3) }
func inUS(s float64) string      { return fmt.Sprintf("%.1f µs", s*1e6) }
func inSeconds(s float64) string { return fmt.Sprintf("%.2f s", s) }
func inKB(b float64) string      { return fmt.Sprintf("%.1f KB", b/1024) }
func inMB(b float64) string      { return fmt.Sprintf("%.1f MB", b/(1<<20)) }
func perSecond(n float64) string { return fmt.Sprintf("%.0f/s", n) }
func plain(n float64) string     { return fmt.Sprintf("%.0f", n) }

// single makes a row of one figure.
func single(ours, what string, a ...any) row { return row{what: fmt.Sprintf(what, a...), ours: ours} }

// compare makes a row of the figures of all rounds: medians, their ratio, and the ratios of the
// rounds as they came.
func compare(f figures, l limit, in unit, what string, a ...any) row {
	r := single(in(median(f[0])), what, a...)
	r.stock, r.ratio = in(median(f[1])), median(f[0])/median(f[1])
	if all := f.ratios(); len(all) > 1 {
		r.low, r.high = slices.Min(all), slices.Max(all)
	}
	return r.judge(l)
}

// paired is compare with the median of the rounds' ratios. It is for differences that are smaller
// than what a machine's pace changes by in a minute.
func paired(f figures, l limit, in unit, what string, a ...any) row {
	r := compare(f, reported, in, what, a...)
	r.ratio = median(f.ratios())
	return r.judge(l)
}

// quantile is a row of the q-quantile of times in seconds, with their median. The limit is in ms.
func quantile(all []float64, q, most float64, what string, a ...any) row {
	slices.Sort(all)
	at := all[min(int(q*float64(len(all))), len(all)-1)] * 1e3
	return single(fmt.Sprintf("%.1f ms (%.1f ms)", at, median(all)*1e3), what, a...).
		absolute(fmt.Sprintf("≤ %.0f ms", most), at > most)
}

func (r row) judge(l limit) row {
	if l == nil {
		return r
	}
	return l(r)
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

// String is the row as a line of a Markdown table.
func (r row) String() string {
	ratio, verdict := "", r.note
	if r.ratio > 0 {
		ratio = fmt.Sprintf("%.3g", r.ratio)
	}
	if r.high > 0 {
		ratio += fmt.Sprintf(" (%.2f–%.2f)", r.low, r.high)
	}
	if r.short {
		verdict = strings.TrimSuffix("**short**; "+r.note, "; ")
	} else if r.must != "" {
		verdict = strings.TrimSuffix("reached; "+r.note, "; ")
	}
	return fmt.Sprintf("| %s | %s | %s | %s | %s | %s |", r.what, r.ours, r.stock, ratio, r.must, verdict)
}

func (b *bench) add(rows ...row) { b.rows = append(b.rows, rows...) }

// preamble tells how the figures are made, and begins their table.
//
//go:embed preamble.md
var preamble string

// text is the report as Markdown.
func (b *bench) text() string {
	command := "make bench"
	if len(os.Args) > 1 {
		command = "go run ./test/bench " + strings.Join(os.Args[1:], " ")
	}
	began, took := b.began.UTC().Format("2006-01-02 15:04 UTC"), time.Since(b.began).Round(time.Second)
	text := fmt.Sprintf("# Speed\n\nMade by `%s` on %s in %s.\n\n", command, began, took)
	for _, fact := range b.facts {
		text += "- " + fact + "\n"
	}
	text += "\n" + preamble
	for _, row := range b.rows {
		text += row.String() + "\n"
	}
	return text
}

// facts are the machine, the versions, and how busy others keep the machine.
func facts() []string {
	file := func(path, pattern string) string {
		b, _ := os.ReadFile(path)
		return found(string(b), pattern)
	}
	commit, _ := exec.Command("git", "describe", "--always", "--exclude=*", "--dirty= with changes").Output()
	built, _ := debug.ReadBuildInfo()
	module := func(path string) string { return found(built.String(), "\t"+path+"\t(\\S+)") }
	return []string{
		fmt.Sprintf("machine: %d cores (%s), %s memory, Linux %s", runtime.NumCPU(),
			file("/proc/cpuinfo", `model name\s*: (.*)`), file("/proc/meminfo", `MemTotal:\s*(.*)`),
			file("/proc/sys/kernel/osrelease", "(.*)")),
		fmt.Sprintf("Lockstep %s, %s, grpc %s, go-control-plane %s, Envoy %s",
			found(string(commit), "(.+)"), runtime.Version(),
			module("google.golang.org/grpc"), module("github.com/envoyproxy/go-control-plane"), envoyVersion()),
		"load average before the first line: " + file("/proc/loadavg", "(.*)"),
	}
}

// envoyVersion is from "…/envoy  version: commit/1.40.0/Clean/RELEASE/BoringSSL".
func envoyVersion() string {
	path, err := fleet.EnvoyPath()
	if err != nil {
		return "?"
	}
	out, _ := exec.Command(path, "--version").Output()
	return found(string(out), `version: [^/]*/([^/]*)/`)
}
