package sds

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// failureEvery is the least time between two lines of a failureLog. While a source is down,
// clients can make as many look-ups fail as they send names.
const failureEvery = 10 * time.Second

// failureLog writes a failure to the log at once. Of the failures that follow soon it writes the
// last one, with their number. It is safe for concurrent use.
type failureLog struct {
	log   *slog.Logger
	level slog.Level
	what  string // what happened to a certificate

	mu    sync.Mutex
	quiet bool // a line was written less than failureEvery ago
	since int  // failures since that line
	name  string
	err   error // the error of the last of them
}

func (c *failureLog) add(name string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.quiet {
		c.since++
		c.name, c.err = name, err
		return
	}
	c.write(name, err, 0)
}

// write writes one line. The caller holds mu.
func (c *failureLog) write(name string, err error, others int) {
	if others == 0 {
		c.log.Log(context.Background(), c.level, c.what, "name", name, "err", err)
	} else {
		c.log.Log(context.Background(), c.level, c.what, "name", name, "err", err, "others", others)
	}
	c.quiet, c.since, c.name, c.err = true, 0, "", nil
	time.AfterFunc(failureEvery, c.again)
}

func (c *failureLog) again() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.quiet = false; c.since > 0 {
		c.write(c.name, c.err, c.since-1)
	}
}

// These are the texts of the failure logs.
const (
	msgNotLoaded = "a certificate cannot be loaded; what was sent stays"
	// msgRefused lacks what to type.
	msgRefused = "the node that gets a changed certificate first refused it; no other of its kind gets it: " +
		"issue another one, or give this one to all (%s)"
	msgUnanswered = "a changed certificate was not accepted in time by the node that gets it first; " +
		"all nodes of its kind get it now"
)
