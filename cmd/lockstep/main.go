// Lockstep is the command line of lockstepd. It shows what the fleet holds, and changes it.
//
// Data goes to standard output, everything else to standard error. Exit codes: 0 done, 1 failed, 2
// usage, 3 degraded, 4 not found, 5 refused or denied, 6 timed out.
//
// Each command, or family of commands, has a file of its own. A command talks to lockstepd through
// read, write or ask (ask.go) and prints through show (output.go). It says its exit code by the
// error that it returns (exit.go). The store is opened without lockstepd only where the help says
// so (offline.go).
//
// The directive below is for verify. Nodes that other programs configure may have RSA keys of more
// than 8192 bits, and crypto/tls refuses these by itself.
//
//go:debug tlsmaxrsasize=16384
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
