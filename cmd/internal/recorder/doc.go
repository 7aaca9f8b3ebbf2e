// Package recorder is the one path of everything that happened: to the log, to those who watch, to
// NATS, and into the record that `lockstep events` reads.
//
// Its rules:
//
//   - Publish never blocks: the goroutines of streams call it.
//   - An event that wakes somebody goes to NATS at once. Only an event with a Text is recorded.
//   - What happens again and again to one node or name has three lines a minute. A further line
//     says how often it happened more.
//   - All lines about nodes together are bounded, too. Those beyond are counted, and a line says
//     how many there were. Nothing is left out without a line that says so.
//   - The disk comes last. If it is full or hangs, all others are told all the same.
package recorder
