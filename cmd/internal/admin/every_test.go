package admin

import (
	"testing"
	"time"
)

func TestProblemsAreLookedForEveryTenToThirtySeconds(t *testing.T) {
	for every, want := range map[time.Duration]time.Duration{
		200 * time.Millisecond: 10 * time.Second, 15 * time.Second: 15 * time.Second, 2 * time.Hour: 30 * time.Second,
	} {
		if got := NewProblems(ProblemsConfig{Every: every}).Every; got != want {
			t.Errorf("asked for every %s: every %s, want %s", every, got, want)
		}
	}
}
