//go:build race

package rotation

const raced = true // the race detector makes everything ten times slower
