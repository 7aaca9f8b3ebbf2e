package presence

import "github.com/lockstep-tls/lockstep/cmd/internal/recorder"

// Config of a [Registry].
type Config struct {
	// Record is called with what happened to nodes. It does not block.
	Record func(recorder.Entry)
}

// Registry knows which nodes are here.
type Registry struct {
	cfg     Config
	tracker *tracker
}

// New starts nothing.
func New(c Config) *Registry { return &Registry{cfg: c, tracker: newTracker()} }
