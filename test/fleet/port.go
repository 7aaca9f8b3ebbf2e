package fleet

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
)

// Ports come from below Linux's ephemeral range (32768 to 60999): in it, the kernel may lend a
// server's port to some client while the server is being restarted.
const (
	firstPort = 20000
	lastPort  = 31999
	blockSize = 40
	blocks    = (lastPort - firstPort + 1) / blockSize
)

var ports struct {
	sync.Mutex
	held []net.Listener // the first port of each block that this process owns; held until it exits
	next int
	end  int
}

// Port returns a port of 127.0.0.1 that nobody listens on, and that no other process which asks
// this function will be given: each process claims blocks of ports by listening on the first of the
// block.
func Port() (int, error) {
	ports.Lock()
	defer ports.Unlock()
	for {
		for ports.next < ports.end {
			port := ports.next
			ports.next++
			if free(port) {
				return port, nil
			}
		}
		if err := claimBlock(); err != nil {
			return 0, err
		}
	}
}

// free reports whether nobody listens on a port. It keeps other goroutines from starting a process
// meanwhile: between fork and exec a child holds a copy of each open file, and the port would stay
// taken for that long.
func free(port int) bool {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return false
	}
	l.Close()
	return true
}

// Addr is 127.0.0.1 with a new Port.
func Addr() (string, error) {
	port, err := Port()
	return fmt.Sprintf("127.0.0.1:%d", port), err
}

func claimBlock() error {
	for i := range blocks {
		first := firstPort + (os.Getpid()+i)%blocks*blockSize
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", first))
		if err != nil {
			continue
		}
		ports.held = append(ports.held, l)
		ports.next, ports.end = first+1, first+blockSize
		return nil
	}
	return errors.New("fleet: no free block of ports from 20000 to 31999: see who listens there with: ss -ltnp")
}
