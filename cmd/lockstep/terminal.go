package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// terminal is standard error where a person reads it.
type terminal struct {
	plain
	file *os.File
}

// width is the number of columns of a terminal, and 0 for anything else.
func width(f *os.File) int {
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	switch {
	case err != nil:
		return 0
	case size.Col == 0: // a terminal that does not say its width
		return 80
	}
	return int(size.Col)
}
