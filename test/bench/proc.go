package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"time"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

// found is the first group of a pattern's first match in a text, or "?".
func found(text, pattern string) string {
	if m := regexp.MustCompile(pattern).FindStringSubmatch(text); m != nil {
		return m[1]
	}
	return "?"
}

// number is found as a number.
func number(text, pattern string) int64 {
	n, err := strconv.ParseInt(found(text, pattern), 10, 64)
	if err != nil {
		check(fmt.Errorf("no number is where %s is looked for in %.200q", pattern, text))
	}
	return n
}

// cpuOf is the processor time that a process has used, in seconds. It sums the run time of its
// threads, which the kernel keeps in nanoseconds. Threads that ended are missing. Neither Go nor
// Envoy ends threads.
func cpuOf(pid int) float64 {
	tasks := must(filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid)))
	if len(tasks) == 0 {
		check(fmt.Errorf("process %d has no threads: has it ended?", pid))
	}
	sum := int64(0)
	for _, t := range tasks {
		if b, err := os.ReadFile(t); err == nil { // else it has ended since
			sum += number(string(b), `^(\d+)`)
		}
	}
	return time.Duration(sum).Seconds()
}

// memoryOf is a field of a process's status (VmRSS: resident; VmHWM: its peak), in bytes.
func memoryOf(pid int, field string) float64 {
	status := must(os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)))
	return float64(number(string(status), field+`:\s*(\d+) kB`) << 10)
}

// peakOf returns the greatest resident memory, in bytes, that a process has while f runs.
// Source: proc_pid_clear_refs(5).
func peakOf(pid int, f func()) float64 {
	check(os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0))
	f()
	return memoryOf(pid, "VmHWM")
}

// settled returns a server's resident memory in bytes when five seconds make less than 1 % of
// difference. Nothing is asked of the runtime: what counts is what an operator sees, garbage
// included.
func (b *bench) settled(p *fleet.Process) (rss float64) {
	for range 12 {
		before := rss
		if rss = memoryOf(p.PID(), "VmRSS"); before > 0 && rss > before*0.99 && rss < before*1.01 {
			break
		}
		b.sleep(5 * time.Second)
	}
	return rss
}

// anonymous is settled without the pages of files. Those of the embedded store come and go with
// what else the machine does.
func (b *bench) anonymous(p *fleet.Process) float64 {
	b.settled(p)
	return memoryOf(p.PID(), "RssAnon")
}
