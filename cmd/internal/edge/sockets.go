package edge

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/coreos/go-systemd/v22/activation"
)

// sockets are listening sockets that this process was started with, by address: those of the process that it takes over from, or of systemd.
type sockets map[string]net.Listener

const (
	// envSockets names, in the order of the file descriptors from 3 on, the addresses of the sockets that are handed over; the one behind is a connection to who does it.
	envSockets = "LOCKSTEP_EDGE_SOCKETS"
	firstFD    = 3
)

// inherit takes the sockets that were given, and the connection to the process that gave them; nil: none did.
func inherit() (s sockets, before *os.File, err error) {
	s = make(sockets)
	names := os.Getenv(envSockets)
	if names == "" {
		all, err := activation.Listeners() // it takes $LISTEN_FDS away, so that no child takes the sockets for its own
		if err != nil {
			return nil, nil, fmt.Errorf("sockets of systemd: %w", err)
		}
		for _, ln := range all {
			if ln != nil { // a datagram socket, which nobody asked for
				s[ln.Addr().String()] = ln
			}
		}
		return s, nil, nil
	}
	if err := os.Unsetenv(envSockets); err != nil {
		return nil, nil, err
	}
	fd := uintptr(firstFD)
	for _, addr := range strings.Split(names, ",") {
		f := os.NewFile(fd, addr)
		fd++
		ln, err := net.FileListener(f)
		if err := errors.Join(err, f.Close()); err != nil {
			return nil, nil, fmt.Errorf("the socket of %s, handed over as %d: %w", addr, fd-1, err)
		}
		s[addr] = ln
	}
	syscall.CloseOnExec(int(fd))
	if err := syscall.SetNonblock(int(fd), true); err != nil { // for deadlines
		return nil, nil, fmt.Errorf("the connection that was handed over as %d: %w", fd, err)
	}
	return s, os.NewFile(fd, "hand-over"), nil
}

// listen returns the socket of an address: one that was given, or a new one.
func (s sockets) listen(addr string) (net.Listener, error) {
	if ln := s[addr]; ln != nil {
		delete(s, addr)
		return ln, nil
	}
	for have, ln := range s {
		if sameAddress(have, addr) {
			delete(s, have)
			return ln, nil
		}
	}
	return net.Listen("tcp", addr)
}

// close ends what the configuration does not name any more.
func (s sockets) close() (unused []string) {
	for addr, ln := range s {
		unused = append(unused, addr)
		ln.Close()
	}
	return unused
}

// sameAddress compares what a socket says with what a configuration says: every way to write "all addresses" is one.
func sameAddress(a, b string) bool {
	hostA, portA, errA := net.SplitHostPort(a)
	hostB, portB, errB := net.SplitHostPort(b)
	if errA != nil || errB != nil || portA != portB {
		return a == b
	}
	return every(hostA) && every(hostB) || hostA == hostB
}

func every(host string) bool { return host == "" || host == "0.0.0.0" || host == "::" }

// files duplicates sockets for a child, with the value of envSockets for it.
func files(lns map[string]net.Listener) (all []*os.File, names string, err error) {
	var addrs []string
	for addr, ln := range lns {
		t, ok := ln.(*net.TCPListener)
		if !ok {
			return all, "", fmt.Errorf("%s is no TCP socket", addr)
		}
		f, err := t.File()
		if err != nil {
			return all, "", fmt.Errorf("%s: %w", addr, err)
		}
		all, addrs = append(all, f), append(addrs, addr)
	}
	return all, strings.Join(addrs, ","), nil
}
