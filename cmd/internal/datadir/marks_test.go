package datadir

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestMarksThatNoFleetReachesAreRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "generations.json")
	for text, want := range map[string]string{
		`{"default": 4503599627370497}`: "scope default has reached g4503599627370497",
		`{"default": -1}`:               "not the marks",
		`[]`:                            "not the marks",
		`{"default": 4503599627370496}`: "",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		m, err := OpenMarks(path, slog.New(slog.DiscardHandler))
		if want == "" {
			if err != nil || m.Highest("default") != maxMark {
				t.Errorf("%s: %v", text, err)
			}
		} else if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
