package bootstrap

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

func TestAModeIsRefusedOnAnEnvoyThatCannotDoIt(t *testing.T) {
	for _, test := range []struct {
		version string
		mode    Mode
		want    string // of the error; "": none
		warns   bool
	}{
		{"1.36.4", OnDemand, "Envoy 1.36.4 cannot do mode on-demand", false},
		{"1.36.4", Hybrid, "use --mode eager, or an Envoy from 1.37 on", false},
		{"1.36.4", Eager, "", false},
		{"1.36.4", "", "", false},
		{"1.9.9", OnDemand, "cannot do mode on-demand", false},
		{"0.99", Hybrid, "cannot do mode hybrid", false},
		{"1.37.0", OnDemand, "", true},
		{"1.37", Hybrid, "", true},
		{"1.37.0", Eager, "", false},
		{"1.38.3", OnDemand, "", false},
		{NewestEnvoy, Hybrid, "", false},
		{"1.99", OnDemand, "", false}, // newer than all that were tried
		{"2.0.0", OnDemand, "", false},
		{"", OnDemand, "", false}, // not known
		{"v1.40.0", Eager, "is not of the form", false},
		{"1.40.0-dev", Eager, "is not of the form", false},
		{"1", Eager, "is not of the form", false},
		{"1.99999999999999999999", Eager, "is not of the form", false},
	} {
		o := example()
		o.Envoy, o.Mode = test.version, test.mode
		if o.Mode == OnDemand || o.Mode == Hybrid {
			o.Hosts = nil
		}
		_, err := Envoy(o)
		switch {
		case test.want == "" && err != nil:
			t.Errorf("%s, %s: %v", test.version, test.mode, err)
		case test.want != "" && (!errors.Is(err, ErrBadOptions) || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%s, %s: %v, want %q", test.version, test.mode, err, test.want)
		case test.want == "" && (Caution(o) != "") != test.warns:
			t.Errorf("%s, %s: caution %q", test.version, test.mode, Caution(o))
		}
	}
}

// TestTheCapabilitiesAreWhatTheCompatRunSaw: the table of the last `make compat` and the data here
// say the same.
func TestTheCapabilitiesAreWhatTheCompatRunSaw(t *testing.T) {
	page := repoFile(t, "docs", "compat.md")
	var columns []string
	rows, newest := 0, false
	for line := range strings.SplitSeq(page, "\n") {
		cells := strings.Split(strings.Trim(line, "| "), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		if cells[0] == "Envoy" {
			columns = cells
			continue
		}
		if !releaseForm.MatchString(cells[0]) || len(cells) != len(columns) || columns[0] != "Envoy" {
			columns = dropOnGap(columns, line)
			continue
		}
		rows++
		newest = newest || cells[0] == NewestEnvoy
		for i, column := range columns {
			mode, ok := map[string]Mode{"On demand": OnDemand, "Hybrid": Hybrid, "Rotation": Eager}[column]
			if !ok {
				continue
			}
			if works := strings.HasPrefix(cells[i], "yes"); works != (parseEnvoy(cells[0], mode) == nil) {
				t.Errorf("Envoy %s, mode %s: the page says %q, and bootstrap: %v",
					cells[0], mode, cells[i], parseEnvoy(cells[0], mode))
			}
			noted := strings.HasPrefix(cells[i], "yes") && strings.HasSuffix(cells[i], ")")
			if words := Caution(Options{Envoy: cells[0], Mode: mode}); strings.HasPrefix(cells[i], "yes") &&
				noted != (words != "") {
				t.Errorf("Envoy %s, mode %s: the page says %q, and bootstrap warns %q", cells[0], mode, cells[i], words)
			}
		}
	}
	if rows < 5 || !newest {
		t.Errorf("the page has %d versions, and %s among them: %v; type: make compat", rows, NewestEnvoy, newest)
	}
}

// dropOnGap forgets the columns at the end of a table.
func dropOnGap(columns []string, line string) []string {
	if strings.TrimSpace(line) == "" {
		return nil
	}
	return columns
}

// TestTheNewestEnvoyIsTheInstalledOne: the default of --envoy-version follows test/install-envoy.
func TestTheNewestEnvoyIsTheInstalledOne(t *testing.T) {
	m := regexp.MustCompile(`(?m)^newest=(.*)$`).FindStringSubmatch(repoFile(t, "test", "install-envoy"))
	if m == nil || m[1] != NewestEnvoy {
		t.Errorf("test/install-envoy installs %q, and NewestEnvoy is %s", m, NewestEnvoy)
	}
}

func repoFile(t *testing.T, path ...string) string {
	t.Helper()
	root, err := fleet.Root()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(append([]string{root}, path...)...))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
