package process

import (
	"os"
	"os/signal"
	"syscall"
)

// OutliveReaders keeps this process going when the other end of its standard output or error is
// closed. Without it a Go program ends at the next line of its log (SIGPIPE). With it the write
// fails, and the line is lost. Programs that it starts are not affected.
func OutliveReaders() { signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) }
