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
		s.all = append(s.all, deed{
			what: "the machine stood still", at: began, until: time.Now(), outcome: outcome{may: []expectation{
				wants("problem", "", ""), wants("problem-over", "", ""), wants("node-gone", "", ""),
				wants("node-let-go", "", ""), wants("replica-away", "", ""), wants("audit-down", "", ""),
				wants("audit-back", "", ""),
			}},
		})
		s.mu.Unlock()
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
