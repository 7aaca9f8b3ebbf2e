package fleet

import "time"

// The times by which replicas and nodes are judged. Each one that follows from another is an
// expression of it, so that changing one cannot leave another stale.
const (
	// heartbeat is how often a replica writes its roster at least. Other replicas hear of it by
	// that.
	heartbeat = 10 * time.Second
	// silentFor is how old a roster may get before its replica is taken for dead, and its nodes
	// for away. Two heartbeats may be lost.
	silentFor = 3 * heartbeat
	// gapAfter is how long ago the store must have been read and written before this replica has
	// missed what others said. Either is due after a heartbeat at the latest.
	gapAfter = heartbeat * 3 / 2
	// writeBackWithin is how long a replica without memory waits for one that still has a newer
	// ring and writes it back. A replica that does not do so in time is taken for dead.
	writeBackWithin = silentFor
	// newRingAfter is when a replica to which a scope is new makes a first ring in a store that
	// was emptied. By then every replica that remembers a ring has written it back, or has
	// replaced every key.
	newRingAfter = 2 * writeBackWithin
	// maxSkew is how far this machine's clock may be off the store's. Rollouts go by the store's
	// clock. But a machine that is further off has leases, logs and certificates' ends wrong, and
	// perhaps more.
	maxSkew = 30 * time.Second
)

// The times of one replica's work.
const (
	// flushAfter is how often acceptances are written that nobody waits for. Joins cannot wait.
	flushAfter = time.Second
	// gather is the pause after a look that let nodes in. A fleet that comes at once is written
	// together.
	gather = 50 * time.Millisecond
	// retryAfter is the pause after a look at the store that failed.
	retryAfter = time.Second
	// lookWithin bounds one look at the store. A store that hangs for a heartbeat is a store that
	// is down.
	lookWithin = heartbeat
	// leaveWithin bounds the last write at a stop.
	leaveWithin = time.Second
	// duplicateFor is how long an entry may be a second one of its node. It is longer than a
	// replica takes to notice by its keepalive (5 to 15 s) that a connection is dead.
	duplicateFor = time.Minute
)

// settleFor returns how long it takes until every living replica has seen a change of the store
// and has written its roster again. Each reads within refresh, and writes within flushAfter; half
// of that is spare.
func settleFor(refresh time.Duration) time.Duration { return refresh + flushAfter*3/2 }

// forgetAfter returns how long no step is made in a store that lost every roster. By then each
// replica has written its own, or is dead and its nodes' leases have ended.
func forgetAfter(lease time.Duration) time.Duration { return silentFor + lease }

// The times by which a replica lets go of its nodes when others do not hear of it. The others take
// it for dead after silentFor, and go on without its nodes a lease later. Nodes that stay would
// then lack the new keys. They are let go in time to be at another replica before silentFor is
// over.
const (
	// lookEvery is how often a replica looks whether others hear of it.
	lookEvery = time.Second
	// answerWithin bounds how long another replica's answer is waited for. It answers from memory.
	answerWithin = time.Second
	// certainFor is how long the others must have said that they go on. It is longer than one try
	// to write, which may be succeeding just now.
	certainFor = 6 * time.Second
	// refuseFor is how long nodes that were let go are refused. It is longer than a node's longest
	// pause between two tries (retry_back_off in its bootstrap), so that each tries another
	// replica meanwhile.
	refuseFor = 3 * time.Second
	// letGoAfter is how long a replica has not been heard before it asks the others. The others'
	// answers, certainFor and a node's pause between two tries fit in what then is left of
	// silentFor, with a look to spare. Nodes are let go after 24 to 26 s.
	letGoAfter = silentFor - refuseFor - certainFor - answerWithin - 2*lookEvery
	// letGoEvery is how often those are let go that came back, since no other replica took them.
	letGoEvery = heartbeat
)

// guessEvery are the pauses between letting nodes go while not every other replica answers. They
// grow, since nodes find nothing better if the store is lost to all. The last one is kept. It is
// less than forgetAfter with the usual lease: the others wait that long for nodes from their
// start, or from when they have the store again.
var guessEvery = []time.Duration{letGoEvery, letGoEvery, 3 * letGoEvery, 9 * letGoEvery}

// The times of finding replicas that cannot reach this one.
const (
	// reachEvery is how often replicas that are new are looked at. They are heard of no more
	// often.
	reachEvery = heartbeat
	// reachWithin bounds one such look.
	reachWithin = heartbeat / 2
)
