// Package testkit has what tests of several rooms need and that belongs to none of them.
package testkit

import (
	"testing"
	"time"
)

// Check ends the test if err is not nil.
func Check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Until waits until is returns nil, for 10 s at most. Then it ends the test with the last error.
func Until(t testing.TB, is func() error) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if err = is(); err == nil {
			return
		}
	}
	t.Fatal(err)
}
