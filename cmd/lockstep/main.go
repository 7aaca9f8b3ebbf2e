// Lockstep is the command line of lockstepd: what the fleet holds, and what changes it.
//
// Data goes to standard output, talk to standard error. Exit codes: 0 done, 1 failed, 2 usage, 3 degraded, 4 not found, 5 refused or
// denied, 6 timed out.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
