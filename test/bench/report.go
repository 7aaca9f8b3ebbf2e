package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// report is all that was measured, and on what.
type report struct {
	begin, finish time.Time
	facts         []string // at the beginning
	rows          []row
}

func newReport() *report { return &report{begin: time.Now(), facts: facts()} }

func (r *report) add(rows []row) { r.rows = append(r.rows, rows...) }

func (r *report) end() { r.finish = time.Now() }

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

// String is the report as Markdown.
func (r *report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Speed\n\nMade by `%s` on %s in %s.\n\n", command(), r.begin.UTC().Format("2006-01-02 15:04 UTC"), r.finish.Sub(r.begin).Round(time.Second))
	for _, fact := range r.facts {
		fmt.Fprintf(&b, "- %s\n", fact)
	}
	b.WriteString(`
Ours is lockstepd as it is built; stock is go-control-plane's LinearCache with delta streams, the SDS service and default server options. Figures are
medians; the ratio is that of the medians, in brackets the least and greatest ratio of single rounds. Times begin with the HTTP request that
triggers the change, sent in the same way to both, and end when the last node has sent its ACK; a push of ours is a burn, with its
record written to disk and synced. The nodes of a push are clients of grpc-go with Envoy's windows; they share the processors with the servers and use about
half of the time. Bare clients, a hand-made HTTP/2 that uses a third of that, are in the lines that say so, and hold the other lines' connections. CPU is the server's own, until 0.3 s after the last ACK. Memory is resident memory once it has come to rest, garbage included. The CPU of the three Envoys is all
that they used, divided by the handshakes; with TLS 1.3 each carries a request, as the ticket comes with the first answer.

Lines of lockstep-edge: each server has one core (one worker, or GOMAXPROCS=1), and clients and upstream have the other; all serve the same P-256 certificate, without access
logs, and take turns; the ratio is the median of those of single rounds. Handshakes are TLS 1.3 with X25519, each on a connection of its own that is ended after it, and
CPU is all that the server used for it. Where a server did not use all of its core, the clients or other work on the machine limited the rate, and the CPU of each request tells more.
Idle connections have carried a request. **short** marks a figure that does not reach what it must.

| | ours | stock | ratio | must be | |
|---|---|---|---|---|---|
`)
	for _, row := range r.rows {
		b.WriteString(row.String() + "\n")
	}
	return b.String()
}

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

func (r *report) write(root string) error {
	return os.WriteFile(filepath.Join(root, "test", "bench", "RESULTS.md"), []byte(r.String()), 0o644)
}
