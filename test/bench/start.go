package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

// start is how long lockstepd takes from exec until /readyz says yes and nodes can connect, and the memory that it holds then.
func start(ctx context.Context, b *bench) ([]row, error) {
	many := b.size(1_000_000, 20_000)
	large, err := b.hugeData(ctx, many)
	if err != nil {
		return nil, err
	}
	small, err := b.data(ctx, 10)
	if err != nil {
		return nil, err
	}
	var times, memories [2][]float64
	for range 5 {
		for i, data := range []string{large, small} {
			took, rss, err := b.startOnce(ctx, data)
			if err != nil {
				return nil, err
			}
			times[i] = append(times[i], took.Seconds())
			memories[i] = append(memories[i], float64(rss))
		}
	}
	first := compare(fmt.Sprintf("lockstepd's start with %d certificates, against one with ten", many), times[0], times[1], reported, inMS)
	first.must, first.short = "≤ 1 s", median(times[0]) > 1
	return []row{first, compare("— memory before any request", memories[0], memories[1], atMost(1.2), inMB)}, nil
}

func (b *bench) startOnce(ctx context.Context, data string) (took time.Duration, rss int64, err error) {
	begin := time.Now()
	l, err := b.fleet.Lockstepd(b.fresh("lockstepd"), fleet.Lockstepd{Bin: b.bin, Data: data})
	if err != nil {
		return 0, 0, err
	}
	defer l.Kill()
	p := &plane{proc: l.Process, control: "http://" + l.Admin, client: &http.Client{Timeout: time.Second}}
	for {
		if err = p.call(ctx, http.MethodGet, "/readyz", nil, nil); err == nil {
			var conn net.Conn
			if conn, err = net.Dial("tcp", l.XDS); err == nil {
				conn.Close()
				break
			}
		}
		if time.Since(begin) > patience {
			return 0, 0, fmt.Errorf("lockstepd does not start: %w; its log ends:\n%s", err, l.LogTail(20))
		}
		time.Sleep(time.Millisecond)
	}
	took = time.Since(begin)
	rss, err = p.settled(ctx)
	return took, rss, err
}
