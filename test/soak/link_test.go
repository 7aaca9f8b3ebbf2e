package main

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// What is sent during a cut arrives after it. Who connects during a cut has no connection.
func TestALinkThatIsCutLetsNothingThroughAndTellsNobody(t *testing.T) {
	to, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	go func() { // it answers with what it gets
		for {
			c, err := to.Accept()
			if err != nil {
				return
			}
			go func() { io.Copy(c, c); c.Close() }()
		}
	}()
	l, err := newLink("unix:"+t.TempDir()+"/s", to.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	connect := func() net.Conn {
		c, err := net.Dial("unix", l.listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	sends := func(c net.Conn) {
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	hears := func(c net.Conn, within time.Duration) error {
		c.SetReadDeadline(time.Now().Add(within))
		_, err := io.ReadFull(c, make([]byte, 1))
		return err
	}
	before := connect()
	defer before.Close()
	sends(before)
	if err := hears(before, 30*time.Second); err != nil {
		t.Fatal(err)
	}
	l.cut()
	during := connect()
	defer during.Close()
	sends(before)
	sends(during)
	for what, c := range map[string]net.Conn{"open before": before, "opened during": during} {
		if err := hears(c, 100*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a connection %s the cut: %v", what, err)
		}
	}
	l.join()
	if err := hears(before, 30*time.Second); err != nil {
		t.Errorf("a connection open before the cut, after it: %v", err)
	}
	if err := hears(during, 30*time.Second); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a connection opened during the cut, after it: %v", err)
	}
}
