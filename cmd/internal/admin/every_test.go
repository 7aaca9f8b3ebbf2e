package admin

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/cmd/internal/problems"
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

// While something hangs that is looked at, nobody takes the last list for one of now.
func TestAListThatIsOldSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewProblems(ProblemsConfig{Every: minEvery})
		p.last = made{at: time.Now(), all: []api.Problem{problems.New(problems.ClockOff, "", "x")}}
		codes := func(all []api.Problem) (out string) {
			for _, one := range all {
				out += one.Code + " "
			}
			return out
		}
		const clock, old = problems.ClockOff + " ", problems.ProblemsOld + " "
		time.Sleep(minEvery + oldAfter - time.Second)
		if got := codes(p.Here()); got != clock {
			t.Errorf("%q", got)
		}
		time.Sleep(time.Second)
		if here, told := codes(p.Here()), codes(p.Told(t.Context())); here != old+clock || told != here {
			t.Errorf("here %q, told %q", here, told)
		}
		if own := p.newest().own; len(own) != 1 || own[0].Severity != api.Critical || own[0].Since != p.last.at {
			t.Errorf("%+v", own)
		}
		if p.last = (made{}); len(p.Here()) != 0 {
			t.Error("before the start there is a problem")
		}
	})
}
