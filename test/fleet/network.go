package fleet

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// Network is a network of boxes and a router between them, which can drop what one box sends to
// another: a partition that nobody is told of. Each box is a network namespace, with an address of
// its own and a link to the router. It stands in a test that is [Secluded].
type Network struct {
	router *Box
}

// Box is a machine as far as the network goes. Files and processes are those of the machine that it
// stands on.
type Box struct {
	Name string
	IP   string

	pid  int    // of a process in it
	link string // to it, in the router
}

// Network joins this process's own namespace, which is the first box, with a new one for each name.
func (f *Fleet) Network(names ...string) (own *Box, others []*Box, n *Network, err error) {
	n = &Network{}
	if n.router, err = f.namespace("router"); err != nil {
		return nil, nil, nil, err
	}
	if err := n.router.run("sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward"); err != nil {
		return nil, nil, nil, err
	}
	own = &Box{Name: "here", pid: os.Getpid()}
	for _, name := range names {
		b, err := f.namespace(name)
		if err != nil {
			return nil, nil, nil, err
		}
		others = append(others, b)
	}
	for i, b := range append([]*Box{own}, others...) {
		b.IP, b.link = fmt.Sprintf("10.113.%d.2", i), fmt.Sprintf("to%d", i)
		if err := n.wire(b, fmt.Sprintf("10.113.%d.1", i)); err != nil {
			return nil, nil, nil, err
		}
	}
	return own, others, n, nil
}

// namespace makes a box that is linked to nothing.
func (f *Fleet) namespace(name string) (*Box, error) {
	p, err := f.Start(Command{
		Name: "box-" + name, Path: "/bin/sleep", Args: []string{"infinity"}, apart: syscall.CLONE_NEWNET,
	})
	if err != nil {
		return nil, fmt.Errorf("fleet: a network namespace for %s: %w", name, err)
	}
	return &Box{Name: name, pid: p.PID()}, nil
}

// wire links a box to the router, which has that address on the link.
func (n *Network) wire(b *Box, gateway string) error {
	return errors.Join(
		n.router.ip("link", "add", "name", b.link, "type", "veth", "peer",
			"name", "eth0", "netns", strconv.Itoa(b.pid)),
		n.router.ip("address", "add", gateway+"/24", "dev", b.link),
		n.router.ip("link", "set", b.link, "up"),
		b.ip("link", "set", "lo", "up"),
		b.ip("address", "add", b.IP+"/24", "dev", "eth0"),
		b.ip("link", "set", "eth0", "up"),
		b.ip("route", "add", "default", "via", gateway),
	)
}

// Drop has the router drop what from sends to to, without a word to either. What to sends to from
// gets through.
func (n *Network) Drop(from, to *Box) error { return n.router.ip(rule("add", from, to)...) }

// Pass undoes Drop.
func (n *Network) Pass(from, to *Box) error { return n.router.ip(rule("del", from, to)...) }

func rule(do string, from, to *Box) []string {
	return []string{"rule", do, "pref", "100", "from", from.IP, "to", to.IP, "blackhole"}
}

// Cut drops what two boxes send to each other, Join lets it through again.
func (n *Network) Cut(a, b *Box) error  { return errors.Join(n.Drop(a, b), n.Drop(b, a)) }
func (n *Network) Join(a, b *Box) error { return errors.Join(n.Pass(a, b), n.Pass(b, a)) }

// Unplug takes the link of a box down, as if its cable were pulled; Plug puts it back. Those who
// send to it are told that there is no way.
func (n *Network) Unplug(b *Box) error { return n.router.ip("link", "set", b.link, "down") }
func (n *Network) Plug(b *Box) error   { return n.router.ip("link", "set", b.link, "up") }

func (b *Box) ip(args ...string) error { return b.run("ip", args...) }

func (b *Box) run(program string, args ...string) error {
	path, args := b.Enter(program, args...)
	if out, err := exec.Command(path, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("fleet: %s %s in box %s: %w: %s", program, strings.Join(args, " "), b.Name, err, out)
	}
	return nil
}

// Enter is the command line that runs a program in the box. A nil box is where we are.
func (b *Box) Enter(path string, args ...string) (string, []string) {
	if b == nil {
		return path, args
	}
	return "nsenter", append([]string{"--target", strconv.Itoa(b.pid), "--net", "--", path}, args...)
}
