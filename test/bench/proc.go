package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// cpuOf is the processor time that a process has used. It sums the run time of its threads, which
// the kernel keeps in nanoseconds; those that ended are missing, and neither Go nor Envoy ends
// threads.
func cpuOf(pid int) (sum time.Duration) {
	tasks := must(filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid)))
	if len(tasks) == 0 {
		check(fmt.Errorf("process %d has no threads: has it ended?", pid))
	}
	for _, t := range tasks {
		b, err := os.ReadFile(t)
		if err != nil {
			continue // ended since
		}
		ran, _, _ := strings.Cut(string(b), " ")
		sum += time.Duration(must(strconv.ParseInt(ran, 10, 64)))
	}
	return sum
}

// memoryOf is a field of a process's status (VmRSS: resident; VmHWM: its peak), in bytes.
func memoryOf(pid int, field string) int64 {
	for line := range strings.Lines(string(must(os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))))) {
		if value, ok := strings.CutPrefix(line, field+":"); ok {
			return must(strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 10, 64)) << 10
		}
	}
	check(fmt.Errorf("process %d has no %s", pid, field))
	return 0
}

// peakOf returns the greatest resident memory, in bytes, that a process has while f runs.
// Source: proc_pid_clear_refs(5).
func peakOf(pid int, f func()) int64 {
	check(os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0))
	f()
	return memoryOf(pid, "VmHWM")
}
