package swarm

import "time"

// Tenths is how long each tenth of many steps took.
type Tenths [10]time.Duration

// InTenths calls step for each number below count, until it fails.
func InTenths(count int, step func(i int) error) (t Tenths, err error) {
	begin := time.Now()
	for i := range count {
		if err := step(i); err != nil {
			return t, err
		}
		if done := (i + 1) * 10 / count; done > i*10/count {
			now := time.Now()
			t[done-1], begin = now.Sub(begin), now
		}
	}
	return t, nil
}

// Add adds the tenths of another round.
func (t *Tenths) Add(o Tenths) {
	for i, d := range o {
		t[i] += d
	}
}

// Total is what all took, in seconds.
func (t Tenths) Total() (seconds float64) {
	for _, d := range t {
		seconds += d.Seconds()
	}
	return seconds
}
