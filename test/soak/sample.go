package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

// sample is what lockstepd uses at one moment, after a garbage collection.
type sample struct {
	at                                       time.Duration
	heap, goroutines, descriptors, rotations float64
}

func look(ctx context.Context, plane *fleet.Lockstepd) (s sample, err error) {
	if _, err := get(ctx, plane, "/debug/pprof/heap?gc=1"); err != nil {
		// collects, and a finalizer may free more for the next
		return s, err
	}
	if _, err := get(ctx, plane, "/debug/pprof/heap?gc=1"); err != nil {
		return s, err
	}
	body, err := get(ctx, plane, "/metrics")
	if err != nil {
		return s, err
	}
	want := map[string]*float64{
		"go_memstats_heap_alloc_bytes": &s.heap, "go_goroutines": &s.goroutines, "process_open_fds": &s.descriptors,
		`lockstep_rotations_total{scope="default"}`: &s.rotations,
	}
	for lines := bufio.NewScanner(strings.NewReader(body)); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), " ")
		if to := want[name]; to != nil {
			if *to, err = strconv.ParseFloat(value, 64); err != nil {
				return s, err
			}
			delete(want, name)
		}
	}
	if len(want) > 0 {
		return s, fmt.Errorf("/metrics lacks %v", want)
	}
	return s, nil
}

func get(ctx context.Context, plane *fleet.Lockstepd, path string) (string, error) {
	url := "http://" + plane.Admin + path
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	if err := plane.Authorize(req); err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusOK {
		err = errors.Join(err, fmt.Errorf("%s: %s", url, resp.Status))
	}
	return string(b), err
}

// verdict looks at what came after the warm-up, the first sixth.
func verdict(samples []sample, length time.Duration) error {
	for len(samples) > 0 && samples[0].at < length/6 {
		samples = samples[1:]
	}
	if len(samples) < 12 {
		return fmt.Errorf("only %d samples after the warm-up: run it for longer", len(samples))
	}
	var errs []error
	first, last := samples[0], samples[len(samples)-1]
	hours := (last.at - first.at).Hours()
	heap := slope(samples, func(s sample) float64 { return s.heap / 1e6 })
	fmt.Printf("after the warm-up, over %s: heap %+.2f MB an hour, goroutines %+.1f an hour, "+
		"descriptors %+.1f an hour, %.0f rotations\n",
		(last.at - first.at).Round(time.Second), heap,
		slope(samples, func(s sample) float64 { return s.goroutines }),
		slope(samples, func(s sample) float64 { return s.descriptors }), last.rotations-first.rotations)
	if heap > maxSlope {
		errs = append(errs, fmt.Errorf("the heap grows by %.2f MB an hour, more than %.0f", heap, maxSlope))
	}
	for _, u := range []struct {
		name string
		of   func(sample) float64
	}{{"goroutines", func(s sample) float64 { return s.goroutines }}, {"descriptors", func(s sample) float64 {
		return s.descriptors
	}}} {
		if a, b := mean(samples[:len(samples)/3], u.of), mean(samples[2*len(samples)/3:], u.of); b > a*1.05+5 {
			errs = append(errs, fmt.Errorf("%s grow: %.0f in the first third, %.0f in the last", u.name, a, b))
		}
	}
	if want := hours * float64(time.Hour/period) * 0.8; last.rotations-first.rotations < want {
		errs = append(errs, fmt.Errorf("%.0f rotations ended, at least %.0f should have",
			last.rotations-first.rotations, want))
	}
	return errors.Join(errs...)
}

// slope is the least-squares slope per hour.
func slope(samples []sample, of func(sample) float64) float64 {
	t := mean(samples, func(s sample) float64 { return s.at.Hours() })
	y := mean(samples, of)
	var num, den float64
	for _, s := range samples {
		num += (s.at.Hours() - t) * (of(s) - y)
		den += (s.at.Hours() - t) * (s.at.Hours() - t)
	}
	return num / den
}

func mean(samples []sample, of func(sample) float64) (sum float64) {
	for _, s := range samples {
		sum += of(s)
	}
	return sum / float64(len(samples))
}
