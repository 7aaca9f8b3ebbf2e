package version

import (
	"maps"
	"runtime"
	"runtime/debug"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

func TestABuildIsDescribedByWhatIsKnownOfIt(t *testing.T) {
	vcs := func(revision, modified string) []debug.BuildSetting {
		return []debug.BuildSetting{{Key: "vcs.revision", Value: revision}, {Key: "vcs.modified", Value: modified}}
	}
	const hash = "0123456789abcdef0123456789abcdef01234567"
	for _, c := range []struct {
		why             string
		version, commit string
		b               debug.BuildInfo
		want            string
	}{
		{"the linker's words come first", "v1.2.3", "feed", debug.BuildInfo{
			Main: debug.Module{Version: "v0.0.0-1"}, Settings: vcs(hash, "true"),
		}, "v1.2.3, commit feed, "},
		{"the go command's are next", "", "", debug.BuildInfo{
			Main: debug.Module{Version: "v0.0.0-1"}, Settings: vcs(hash, "false"),
		}, "v0.0.0-1, commit 0123456789ab, "},
		{"changes are told", "", "", debug.BuildInfo{Settings: vcs(hash, "true")},
			"(devel), commit 0123456789ab-dirty, "},
		{"outside git nothing is known", "", "", debug.BuildInfo{}, "(devel), commit unknown, "},
		{"a short revision is no panic", "", "", debug.BuildInfo{Settings: vcs("ab", "")}, "(devel), commit ab, "},
	} {
		if got := describe(c.version, c.commit, &c.b).String(); got != c.want+runtime.Version() {
			t.Errorf("%s: %s, want %s", c.why, got, c.want+runtime.Version())
		}
	}
}

func TestTheMetricTellsTheBuild(t *testing.T) {
	i := Get()
	reg := prometheus.NewRegistry()
	reg.MustRegister(Metric())
	all, err := reg.Gather()
	if err != nil || len(all) != 1 || all[0].GetName() != "lockstep_build_info" {
		t.Fatal(all, err)
	}
	m := all[0].GetMetric()[0]
	labels := map[string]string{}
	for _, l := range m.GetLabel() {
		labels[l.GetName()] = l.GetValue()
	}
	want := map[string]string{"version": i.Version, "commit": i.Commit, "go": i.Go}
	if m.GetGauge().GetValue() != 1 || !maps.Equal(labels, want) {
		t.Errorf("%v with %v, want 1 with %v", m.GetGauge().GetValue(), labels, want)
	}
}

func TestTheShortNameOfABuildIsNeverEmpty(t *testing.T) {
	for want, i := range map[string]Info{
		"v1.2.3":  {Version: "v1.2.3", Commit: "feed"},
		"feed":    {Version: unversioned, Commit: "feed"},
		"(devel)": {Version: unversioned, Commit: unknown},
	} {
		if got := i.Short(); got != want {
			t.Errorf("%+v: %q, want %q", i, got, want)
		}
	}
}
