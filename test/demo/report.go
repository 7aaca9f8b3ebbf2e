package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/lockstep-tls/lockstep/test/traffic"
)

func (s *stage) table(breaks bool) {
	fmt.Println()
	w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if lines, err := s.history(ctx); err == nil && !breaks {
		fmt.Fprintln(w, "rotation\tdistributed in\tpromoted in\tnodes accepted\ttickets offered at other nodes, "+
			"after each phase")
		for n := uint64(1); n <= 3; n++ {
			var distributed, promoted float64
			nodes := 0
			for _, l := range lines {
				if l.Rotation != n {
					continue
				}
				switch l.What { // a line ends the phase before it
				case "promoting":
					distributed, nodes = l.Seconds, l.Nodes
				case "done":
					promoted = l.Seconds
					nodes = min(nodes, l.Nodes)
				}
			}
			c := s.crossed[n]
			fmt.Fprintf(w, "%d\t%.0f ms\t%.0f ms\t%d\tdistributing %d, promoting %d, done %d, new key %d\n",
				n, distributed*1000, promoted*1000, nodes, c["distributing"],
				c["promoting"], c["done"], c["the new key's"])
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintln(w, "nodes\tclients\thandshakes\tresumed\tlive tickets refused\thandshakes failed\tconnections cut")
	beats := 0
	var words []string
	for _, p := range s.packs {
		counts, said := p.traffic.Counts()
		words, beats = append(words, said...), beats+p.beats
		for _, v := range kinds() {
			c := counts[v]
			fmt.Fprintf(w, "%d × %s\t%s\t%d\t%d (%.1f %%)\t%d of %d\t%d\t%d\n", len(p.nodes), p.what, traffic.Kinds[v],
				c.Handshakes, c.Resumed, share(c), c.Refused, c.Offered, c.Failed, len(p.cut[v]))
		}
	}
	w.Flush()
	fmt.Printf("\n%d messages and lines came over the WebSockets and streams that were held open\n", beats)
	for _, w := range words {
		fmt.Println("  ", w)
	}
	fmt.Println()
}

func share(c traffic.Count) float64 {
	return 100 * float64(c.Resumed) / float64(max(1, c.Handshakes))
}

// verdict is the exit status.
func (s *stage) verdict(breaks bool) error {
	var errs []error
	bad := func(format string, a ...any) { errs = append(errs, fmt.Errorf(format, a...)) }
	refused := 0
	for _, p := range s.packs {
		counts, _ := p.traffic.Counts()
		for v, c := range counts {
			what := p.what + ", " + traffic.Kinds[v]
			refused += c.Refused
			if breaks {
				continue
			}
			if c.Refused > 0 {
				bad("%s: %d live tickets were refused", what, c.Refused)
			}
			if c.Failed > 0 {
				bad("%s: %d handshakes failed on nodes that were up", what, c.Failed)
			}
			if c.Handshakes < 2000 || share(c) < 95 {
				bad("%s: %d handshakes, %.1f %% resumed; at least 2000 and 95 %% are needed",
					what, c.Handshakes, share(c))
			}
		}
	}
	if breaks {
		if refused == 0 {
			bad("the keys were replaced abruptly and no live ticket was refused: the demo would not notice")
		} else {
			s.say("%d live tickets were refused, as an abrupt replacement must; "+
				"make demo shows how it is avoided", refused)
		}
		return errors.Join(errs...)
	}
	for _, p := range s.packs {
		for _, cut := range p.cut {
			for _, w := range cut {
				bad("cut: %s", w)
			}
		}
	}
	for _, w := range s.uncross {
		bad("%s", w)
	}
	if len(errs) == 0 {
		s.say("no live ticket was refused, no handshake failed, nothing was cut")
	}
	return errors.Join(errs...)
}

// next says what to type while the fleet is left up.
func (s *stage) next() {
	cli := fmt.Sprintf("%s --data-dir %s", s.cli, s.plane.Data)
	fmt.Printf("\nThe fleet is up; Ctrl-C ends it. Try:\n  %s status\n  %s nodes\n  %s rotate --wait\n  %s history\n",
		cli, cli, cli, cli)
	fmt.Printf("  %s verify --sni %s --ca %s", s.cli, s.names[0], filepath.Join(s.dir, "ca.pem"))
	for _, n := range s.packs[0].nodes {
		fmt.Printf(" %s", n.addr)
	}
	fmt.Printf("\n  curl http://%s/metrics\n", s.plane.Admin)
}
