package main

import (
	"testing"
	"time"
)

func TestTimesAreReadAsAPersonMeansThem(t *testing.T) {
	zone := time.Local
	time.Local = time.FixedZone("CET", 3600)
	defer func() { time.Local = zone }()
	now := time.Date(2026, 11, 30, 3, 15, 20, 0, time.Local)
	at := func(day, hour, minute int) time.Time { return time.Date(2026, 11, day, hour, minute, 0, 0, time.Local) }
	for _, tc := range []struct {
		since, until string
		from, to     time.Time // a zero from stands for an error
	}{
		{"", "", now.Add(-24 * time.Hour), time.Time{}},
		{"03:00", "", at(30, 3, 0), time.Time{}},
		{"03:00", "03:10", at(30, 3, 0), at(30, 3, 10)},
		{"03:00", "03:30", at(30, 3, 0), at(30, 3, 30)}, // it has not come yet
		{"23:50", "00:10", at(29, 23, 50), at(30, 0, 10)},
		{"04:00", "04:30", at(29, 4, 0), at(29, 4, 30)},
		{"2026-11-28T03:00", "2026-11-28 03:30", at(28, 3, 0), at(28, 3, 30)},
		{"2026-11-28", "2026-11-29", at(28, 0, 0), at(29, 0, 0)},
		{"2026-11-28T02:00:00Z", "", at(28, 3, 0), time.Time{}},
		{"2h", "1h", now.Add(-2 * time.Hour), now.Add(-time.Hour)},
		{"", "2026-11-28T03:00", at(27, 3, 0), at(28, 3, 0)},
		{"1h", "2h", time.Time{}, time.Time{}},
		{"2d", "", now.AddDate(0, 0, -2), time.Time{}},
		{"1w", "2d", now.AddDate(0, 0, -7), now.AddDate(0, 0, -2)},
		{"03:10", "03:00", at(29, 3, 10), at(30, 3, 0)}, // not until tomorrow
		{"d", "", time.Time{}, time.Time{}},
		{"1x", "", time.Time{}, time.Time{}},
		{"yesterday", "", time.Time{}, time.Time{}},
		{"-2h", "", time.Time{}, time.Time{}},
		{"3", "", time.Time{}, time.Time{}},
	} {
		from, to, err := span(tc.since, tc.until, now)
		if tc.from.IsZero() != (err != nil) || err == nil && (!from.Equal(tc.from) || !to.Equal(tc.to)) {
			t.Errorf("--since %q --until %q: from %s to %s, %v; want %s to %s", tc.since, tc.until, from, to, err,
				tc.from, tc.to)
		}
	}
	if got := zoneOf(now); got != "CET +01:00" {
		t.Errorf("the zone is said as %q", got)
	}
}
