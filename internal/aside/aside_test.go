package aside

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestNobodyWaitsForWhatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r Runner
		release, ran := make(chan struct{}), 0
		began := time.Now()
		hangs := func() { <-release; ran++ }
		if !r.Do(hangs, time.Second) || time.Since(began) != time.Second {
			t.Errorf("it was not begun, or took %s", time.Since(began))
		}
		if r.Do(hangs, time.Second) || r.Wait(time.Second) || time.Since(began) != 2*time.Second {
			t.Errorf("another one was begun, or the first one is over, after %s", time.Since(began))
		}
		close(release)
		if !r.Wait(time.Second) || ran != 1 {
			t.Errorf("%d have run", ran)
		}
		if !r.Do(func() { ran++ }, time.Second) || ran != 2 || !r.Wait(0) || time.Since(began) != 2*time.Second {
			t.Errorf("%d have run, after %s", ran, time.Since(began))
		}
	})
}

func TestWithoutATimeNothingIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r Runner
		release := make(chan struct{})
		began := time.Now()
		if !r.Do(func() { <-release }, 0) || r.Wait(0) || time.Since(began) != 0 {
			t.Errorf("after %s", time.Since(began))
		}
		close(release)
		synctest.Wait()
		if !r.Wait(0) {
			t.Error("it still runs")
		}
	})
}
