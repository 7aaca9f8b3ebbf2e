package logs

import (
	"bytes"
	"encoding/json"
	"log"
	"log/slog"
	"strings"
	"testing"

	"google.golang.org/grpc/grpclog"
)

func TestWhatLibrariesSayIsALineOfTheLog(t *testing.T) {
	var b bytes.Buffer
	Libraries(New(&b, "json", slog.LevelInfo, nil))
	log.Printf("one line\nand %s", "another")
	grpclog.Error("three")
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	for i, want := range []string{"one line\nand another", "three"} {
		var line struct{ Level, Says string }
		if err := json.Unmarshal([]byte(lines[i]), &line); err != nil || !strings.Contains(line.Says, want) ||
			line.Level != "WARN" {
			t.Errorf("%q: %v", lines[i], err)
		}
	}
	if len(lines) != 2 {
		t.Errorf("%q", lines)
	}
}
