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

// sockets are the listening sockets that this process was started with, by address. They come from
// the process before it, or from systemd.
type sockets map[string]net.Listener

const (
	// envSockets names the addresses of the sockets that are handed over, in the order of the file
	// descriptors from 3 on. The descriptor after them is a connection to the process that hands
	// over.
	envSockets = "LOCKSTEP_EDGE_SOCKETS"
	firstFD    = 3
)

// inherit returns the sockets that were given, and the connection to the process that gave them, or
// nil if there is none.
func inherit() (s sockets, before *os.File, err error) {
	s = make(sockets)
	names := os.Getenv(envSockets)
	if names == "" {
		// it unsets $LISTEN_FDS, so that no child takes the sockets for its own
		all, err := activation.Listeners()
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

// listen returns the socket of an address. It is one that was given, or a new one.
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

// close closes the sockets that the configuration does not name any more.
func (s sockets) close() (unused []string) {
	for addr, ln := range s {
		unused = append(unused, addr)
		ln.Close()
	}
	return unused
}

// sameAddress reports whether the address of a socket is that of a configuration. All ways to write
// "all addresses" are the same.
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
