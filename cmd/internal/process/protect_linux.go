package process

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Protect keeps the memory of this process from all users but root, until it ends. It works for
// any user, and is not undone by what the process does later.
//
// Source: https://man7.org/linux/man-pages/man2/PR_SET_DUMPABLE.2const.html
func Protect() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("this process cannot be kept from debuggers and core dumps (PR_SET_DUMPABLE): %w", err)
	}
	return nil
}
