package main

import (
	"fmt"
	"slices"
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

// compare makes a row of the figures of all rounds: medians, their ratio, and the ratios of the rounds as they came.
func compare(what string, ours, stock []float64, l limit, format func(float64) string) row {
	r := row{what: what, ours: format(median(ours)), stock: format(median(stock)), ratio: median(ours) / median(stock)}
	if n := min(len(ours), len(stock)); n > 1 {
		var all []float64
		for i := range n {
			all = append(all, ours[i]/stock[i])
		}
		r.low, r.high = slices.Min(all), slices.Max(all)
	}
	return r.judge(l)
}

// judge holds the row's ratio against a limit.
func (r row) judge(l limit) row {
	switch {
	case l.atMost > 0:
		r.must, r.short = fmt.Sprintf("≤ %.2f ×", l.atMost), r.ratio > l.atMost
	case l.atLeast > 0:
		r.must, r.short = fmt.Sprintf("≥ %.3g ×", l.atLeast), r.ratio < l.atLeast
	}
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
