package main

import (
	"context"
	"os"
	"sync"
	"time"
)

const (
	// stillAfter is how long a small write to the disk may take.
	stillAfter = time.Second
	lookEvery  = time.Second
	// soonAfterStill is how long after a standstill its consequences may begin. The lease of a node
	// is shorter.
	soonAfterStill = 15 * time.Second
	// longStandstill is after how long a replica may be taken for away.
	longStandstill = 10 * time.Second
)

// standstills are the times when the machine had no CPU or no disk to give. Then replicas and
// Envoys may take each other for away, and the store too.
type standstills struct {
	mu  sync.Mutex
	all []deed
}

// watch writes to the file from time to time, and notes when that takes long, until stop is called.
func (s *standstills) watch(ctx context.Context, file string) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() { defer close(ended); s.run(ctx, file) }()
	return func() {
		cancel()
		<-ended
	}
}

func (s *standstills) run(ctx context.Context, file string) {
	for sleep(ctx, lookEvery) == nil {
		began := time.Now()
		if err := syncedWrite(file); err == nil && time.Since(began) < stillAfter {
			continue
		}
		s.mu.Lock()
		s.all = append(s.all, standstill(began, time.Now())...)
		s.mu.Unlock()
	}
}

// standstill is what a standstill explains: that something was away soon after, and that it came
// back. A short one makes nobody take a replica for away, since others wait half a minute for it.
func standstill(began, ended time.Time) []deed {
	begins := []expectation{wants("node-gone", "", ""), wants("audit-down", "", "")}
	codes := []string{
		"store-down", "events-down", "events-unrecorded", "audit-sink-down", "ring-unrecorded", "roster-unreadable",
		"certificates-unaudited", "certificate-unloadable", "sealing-key-unusable", "clock-off",
	}
	if ended.Sub(began) >= longStandstill {
		begins = append(begins, wants("node-let-go", "", ""), wants("replica-away", "", ""))
		codes = append(codes, "replica-missing", "replica-unreachable", "node-missing")
	}
	ends := []expectation{wants("audit-back", "", "")}
	for _, code := range codes {
		begins, ends = append(begins, wants("problem", "", code)), append(ends, wants("problem-over", "", code))
	}
	const what = "the machine stood still"
	return []deed{
		{what: what, at: began, until: ended, lately: soonAfterStill, outcome: outcome{may: begins}},
		{what: what + ", and goes on", at: began, until: ended, outcome: outcome{may: ends}},
	}
}

func syncedWrite(file string) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write([]byte("x")); err != nil {
		return err
	}
	return f.Sync()
}

// deeds are those that were noted so far.
func (s *standstills) deeds() []deed {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]deed(nil), s.all...)
}
