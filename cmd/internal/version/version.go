// Package version says which build a program is. Each program prints it with --version, and the
// servers show it as the metric lockstep_build_info.
package version

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/prometheus/client_golang/prometheus"
)

// These are set by the linker (test/build). They are empty where a program was built otherwise.
var version, commit string

const (
	// unversioned is what the go command says of a build that has no version.
	unversioned  = "(devel)"
	unknown      = "unknown"
	commitDigits = 12 // commitDigits is how many digits of a commit are shown.
)

// Info describes a build. No field is empty.
type Info struct {
	// Version is the newest tag and what came after it, or a Go pseudo-version, or "(devel)".
	Version string
	// Commit is the beginning of the hash, with "-dirty" if the files had changes, or "unknown".
	Commit string
	Go     string // Go is the version of the Go toolchain.
}

// Get returns the description of this program. What the linker did not set is read from what the go
// command recorded in the program.
func Get() Info {
	b, ok := debug.ReadBuildInfo()
	if !ok {
		b = new(debug.BuildInfo)
	}
	return describe(version, commit, b)
}

func describe(version, commit string, b *debug.BuildInfo) Info {
	if version == "" {
		version = b.Main.Version
	}
	if version == "" {
		version = unversioned
	}
	if commit == "" {
		commit = recorded(b)
	}
	return Info{Version: version, Commit: commit, Go: runtime.Version()}
}

// recorded returns the commit that the go command recorded.
func recorded(b *debug.BuildInfo) string {
	settings := map[string]string{}
	for _, s := range b.Settings {
		settings[s.Key] = s.Value
	}
	c := settings["vcs.revision"]
	if c == "" {
		return unknown
	}
	c = c[:min(len(c), commitDigits)]
	if settings["vcs.modified"] == "true" {
		c += "-dirty"
	}
	return c
}

// Short returns what tells this build from others: the version, else the commit, else "(devel)".
func (i Info) Short() string {
	if i.Version == unversioned && i.Commit != unknown {
		return i.Commit
	}
	return i.Version
}

// String returns all on one line.
func (i Info) String() string {
	return fmt.Sprintf("%s, commit %s, %s", i.Version, i.Commit, i.Go)
}

// Metric returns the gauge lockstep_build_info. Its value is always 1, its labels tell the build.
func Metric() prometheus.Collector {
	i := Get()
	g := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "lockstep_build_info", Help: "1; the labels tell the build.",
		ConstLabels: prometheus.Labels{"version": i.Version, "commit": i.Commit, "go": i.Go},
	})
	g.Set(1)
	return g
}
