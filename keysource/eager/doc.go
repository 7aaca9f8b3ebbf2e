// Package eager decides which hosts are eager: which get a filter chain of their own, with session
// tickets, before any client asks for them.
//
// Hosts are pinned one by one in the store, where every replica finds them. Or the configuration
// names them, or a glob of it matches the names of certificates. It owns the keys "eager/<name>"
// of the store.
//
// The rules of this room:
//
//   - Only a glob has certificates enumerated. Of what it matches, the first max_eager and 1000
//     more are known by name, and the rest is a number. So a change costs what changed.
//   - All are enumerated again when a place is free that none of those can take. That may take a
//     twentieth of the time. They are also enumerated ten minutes after the last time, to count
//     the rest anew.
//   - Which of the hosts have a second certificate is found apart ([Seconds]), since an eager host
//     needs no certificate.
//   - It knows nothing of listeners. Package lds makes chains of its hosts.
package eager
