// Package presence knows which nodes are here, and which were.
package presence
