package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

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
	b, err := os.ReadFile(path)
	if err != nil {
		return "?"
	}
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
	out, err := exec.Command(path, "--version").Output()
	_, words, _ := strings.Cut(string(out), "version: ")
	parts := strings.Split(words, "/")
	if err != nil || len(parts) < 2 {
		return "?"
	}
	return parts[1]
}
