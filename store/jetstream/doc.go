// Package jetstream keeps the store in a NATS JetStream cluster (2.11 or later), for several
// replicas of lockstepd.
//
// # The stream
//
//   - A stream holds one message for each key, the newest. Its subject is
//     lockstep.store.<bucket>.<segments of the key>.
//   - A swap is a publish that expects the key's last sequence. A delete leaves an empty message
//     with a mark behind, for [Store.Changed]. These stay.
//   - A revision is the sequence in the stream, doubled, and odd for a delete.
//   - The stream's name carries its first sequence, which is the time in microseconds since 1970.
//     So a stream that was deleted and made again is another one, and no revision repeats.
//     Whoever knew the old one learns that it is gone, whatever others have made since.
//   - The stream refuses purges and deletes of single messages. So it loses its content only as a
//     whole.
//   - There is no faster way to do many keys. Bulk calls are single calls ([store.OneByOne]), and
//     each page of keys reads all keys.
//
// # Reads
//
//   - What has to be certain is asked of the stream's leader. Other replicas answer in bulk, and
//     the leader has the last word.
//   - Nothing is read through consumers, so none is left behind.
//   - Reads are not linearizable. A leader that was cut off from the majority may answer from the
//     past. It does so for up to 20 s, until it steps down. It cannot write.
//   - What is older than what this process wrote or read of a key before is not believed. It is
//     asked for again.
//
// NATS acknowledges a write once a majority has it, by default before it is on disk. So the
// servers need sync_interval: always.
package jetstream
