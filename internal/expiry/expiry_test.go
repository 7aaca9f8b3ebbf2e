package expiry

import (
	"testing"
	"time"
)

func TestWhatIsNearFollowsTheLifetimeUpToABound(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		life, left    time.Duration
		proof, served State
	}{
		{365 * day, 31 * day, Good, Good},
		{365 * day, 30 * day, Near, Near},
		{365 * day, 3 * day, Last, Last},
		{90 * day, 30 * day, Near, Good}, // the moment at which it is renewed
		{90 * day, 22 * day, Near, Near},
		{47 * day, 15 * day, Near, Good},
		{47 * day, 11 * day, Near, Near},
		{6 * day, 3 * day, Good, Good},
		{6 * day, 36 * time.Hour, Near, Near},
		{3 * day, 3 * day, Good, Good},
		{time.Hour, 19 * time.Minute, Near, Good},
		{time.Hour, 6 * time.Minute, Last, Last},
		{time.Hour, -time.Second, Expired, Expired},
		{-time.Hour, time.Hour, Good, Good}, // ends before it begins
	} {
		s := Span{now.Add(c.left - c.life), now.Add(c.left)}
		if got := s.State(Proof, now); got != c.proof {
			t.Errorf("%s of %s left: %s for a proof, want %s", c.left, c.life, got, c.proof)
		}
		if got := s.State(Served, now); got != c.served {
			t.Errorf("%s of %s left: %s where it is served, want %s", c.left, c.life, got, c.served)
		}
	}
}

func TestWordsSayHowLongAndUntilWhen(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for left, want := range map[time.Duration]string{
		76 * time.Hour:                  "expires in 3d4h, at 2026-01-04T04:00:00Z",
		61 * time.Second:                "expires in 1m1s, at 2026-01-01T00:01:01Z",
		-3*time.Hour - 5*time.Minute:    "expired 3h5m ago, at 2025-12-31T20:55:00Z",
		-1500 * time.Millisecond:        "expired 1s ago, at 2025-12-31T23:59:58Z",
		2*time.Second + time.Nanosecond: "expires in 2s, at 2026-01-01T00:00:02Z",
	} {
		if got := (Span{now, now.Add(left)}).Words(now); got != want {
			t.Errorf("%s: %q, want %q", left, got, want)
		}
	}
}
