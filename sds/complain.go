package sds

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// complainEvery is how often the log is told what happens to certificates: while a source is down, clients can make as many fail as they send names.
const complainEvery = 10 * time.Second

// complaints writes a failure to the log at once, and of those that follow it the last one, with their number. Safe for concurrent use.
type complaints struct {
	log   *slog.Logger
	level slog.Level
	what  string // happened to a certificate

	mu    sync.Mutex
	quiet bool // a line was written less than complainEvery ago
	since int  // failures that came after it
	name  string
	err   error // of the last of them
}

func (c *complaints) add(name string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.quiet {
		c.since++
		c.name, c.err = name, err
		return
	}
	c.write(name, err, 0)
}

// write: the caller holds mu.
func (c *complaints) write(name string, err error, others int) {
	if others == 0 {
		c.log.Log(context.Background(), c.level, c.what, "name", name, "err", err)
	} else {
		c.log.Log(context.Background(), c.level, c.what, "name", name, "err", err, "others", others)
	}
	c.quiet, c.since, c.name, c.err = true, 0, "", nil
	time.AfterFunc(complainEvery, c.again)
}

func (c *complaints) again() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.quiet = false; c.since > 0 {
		c.write(c.name, c.err, c.since-1)
	}
}

// What complaints say.
const (
	unloaded = "a certificate cannot be loaded; what was sent stays"
	// declined lacks what to type.
	declined = "the node that gets a changed certificate first refused it; no other of its kind gets it: " +
		"issue another one, or give this one to all (%s)"
	unanswered = "a changed certificate was not accepted in time by the node that gets it first; all nodes of its kind get it now"
)
