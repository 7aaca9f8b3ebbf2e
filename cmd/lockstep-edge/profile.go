//go:build profile

package main

import (
	"errors"
	"log"
	"os"
	"os/signal"
	"runtime/pprof"
	"syscall"
)

// A build with the tag profile writes a CPU profile of itself to the file $LOCKSTEP_EDGE_PROFILE,
// from the first SIGUSR1 to the second. `make profile` makes default.pgo of it.
func init() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1)
	go func() {
		<-signals
		name := os.Getenv("LOCKSTEP_EDGE_PROFILE")
		f, err := os.Create(name + ".part")
		if err == nil {
			err = pprof.StartCPUProfile(f)
		}
		if err != nil {
			log.Fatal("profile: ", err)
		}
		<-signals
		pprof.StopCPUProfile()
		if err := errors.Join(f.Close(), os.Rename(f.Name(), name)); err != nil {
			log.Fatal("profile: ", err)
		}
	}()
}
