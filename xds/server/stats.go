package server

import "sync/atomic"

// Stats counts what happened since the server was made.
type Stats struct {
	Streams       int    // open now
	Requests      uint64 // requests received on streams, acknowledgements included
	Responses     uint64 // responses made
	Wildcards     uint64 // subscriptions to everything, which get nothing
	UnknownNonces uint64 // requests with a nonce that is not outstanding; it acknowledges nothing
	IgnoredTypes  uint64 // requests for a type that is not served
	BadNames      uint64 // names that are not UTF-8, which get no answer
	Evicted       uint64 // names that were evicted, since a node held too many
	Crowded       uint64 // names that were refused, since a node held too many of their group
	CutOff        uint64 // streams that were ended, since the peer did not read what was sent
}

// counters are those of [Stats].
type counters struct {
	requests, responses, wildcards, unknownNonces, ignoredTypes, badNames, evicted, crowded, cutOff atomic.Uint64
}

// Stats returns the counters. Safe for concurrent use.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	n := len(s.streams)
	s.mu.Unlock()
	c := &s.env.counters
	return Stats{
		Streams:       n,
		Requests:      c.requests.Load(),
		Responses:     c.responses.Load(),
		Wildcards:     c.wildcards.Load(),
		UnknownNonces: c.unknownNonces.Load(),
		IgnoredTypes:  c.ignoredTypes.Load(),
		BadNames:      c.badNames.Load(),
		Evicted:       c.evicted.Load(),
		Crowded:       c.crowded.Load(),
		CutOff:        c.cutOff.Load(),
	}
}
