package fleet

import (
	"errors"
	"fmt"
	"os"
	"strconv"
)

// Segment is a switch with boxes on it: they hear each other's broadcasts, and an address may move
// from one to another. It stands in a test that is [Secluded].
type Segment struct {
	own *Box // has the switch in it
}

// Segment puts this process's own namespace, which is the first box, and a new one for each name on
// a switch.
func (f *Fleet) Segment(names ...string) (own *Box, others []*Box, s *Segment, err error) {
	own = &Box{Name: "here", pid: os.Getpid(), IP: s.address(1)}
	s = &Segment{own}
	err = errors.Join(
		own.ip("link", "add", "name", "switch", "type", "bridge"),
		own.ip("address", "add", own.IP+"/24", "dev", "switch"),
		own.ip("link", "set", "switch", "up"),
	)
	if err != nil {
		return nil, nil, nil, err
	}
	for i, name := range names {
		b, err := f.namespace(name)
		if err != nil {
			return nil, nil, nil, err
		}
		b.IP, b.link = s.address(10+i), fmt.Sprintf("to%d", i)
		if err := s.wire(b); err != nil {
			return nil, nil, nil, err
		}
		others = append(others, b)
	}
	return own, others, s, nil
}

func (s *Segment) wire(b *Box) error {
	return errors.Join(
		s.own.ip("link", "add", "name", b.link, "type", "veth", "peer", "name", "eth0", "netns", strconv.Itoa(b.pid)),
		s.own.ip("link", "set", b.link, "master", "switch", "up"),
		b.ip("link", "set", "lo", "up"),
		b.ip("address", "add", b.IP+"/24", "dev", "eth0"),
		b.ip("link", "set", "eth0", "up"),
	)
}

// Spare is an address of the segment that no box has.
func (s *Segment) Spare() string { return s.address(100) }

// Unplug takes the link of a box down, as if its cable were pulled; Plug puts it back.
func (s *Segment) Unplug(b *Box) error { return s.own.ip("link", "set", b.link, "down") }
func (s *Segment) Plug(b *Box) error   { return s.own.ip("link", "set", b.link, "up") }

func (*Segment) address(host int) string { return fmt.Sprintf("10.114.0.%d", host) }
