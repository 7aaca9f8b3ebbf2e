package enforce

import (
	"log/slog"
	"strings"
	"testing"
)

func TestDenialsInTheLogAreFew(t *testing.T) {
	var b strings.Builder
	told := 0
	d := NewDenials(slog.New(slog.NewTextHandler(&b, nil)), func(string, string) { told++ })
	for range 1000 {
		d.Add(Denial{Node: "edge-1", Name: "x.example"})
	}
	certificates, _ := d.Counts()
	if n := strings.Count(b.String(), "denied by the policy"); n < 100 ||
		n > 120 || certificates != 1000 || told != 1000 {
		t.Errorf("%d lines, %d counted, %d told", n, certificates, told)
	}
}
