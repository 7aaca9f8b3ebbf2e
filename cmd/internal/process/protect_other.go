//go:build !linux

package process

// Protect does nothing here: there is no such call.
func Protect() error { return nil }
