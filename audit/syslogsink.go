package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/syslog"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// syslogSink sends each line to syslog (facility authpriv, severity notice, tag lockstep-audit).
// What syslog does with it is not known here, so its chain goes on from the mark.
//
// Over TCP a line may be sent to a syslog that has closed the connection, without an error. So the
// connection is looked at before each write, and in between.
type syslogSink struct {
	network, addr  string // of unixgram, unix and tcp; network is empty for the local one
	chain, replica string
	marks          *marks

	conn net.Conn
	last Head
	// sent is how many lines were sent since the last look found syslog there. Those may be lost
	// if it has gone since.
	sent  int
	until time.Time // until is when the batch that is sent must have been taken.
}

// sendWithin is shorter than within. So a batch that was given up is not sent later.
const sendWithin = within * 4 / 5

// localSyslog are the addresses where the local syslog may be.
var localSyslog = []string{"/dev/log", "/var/run/syslog", "/var/run/log"}

// CheckSyslog returns what is wrong with a [Config.Syslog]. UDP is refused, since it never says
// that nobody listens.
func CheckSyslog(where string) error {
	_, err := newSyslogSink(where, "", nil)
	return err
}

// LookAtSyslog returns why no line could be sent to a [Config.Syslog] on this machine. It sends
// nothing. known is false if syslog is on another machine, since only a connection would show it.
func LookAtSyslog(where string) (known bool, err error) {
	s, err := newSyslogSink(where, "", nil)
	if err != nil || s.network == "tcp" {
		return err != nil, err
	}
	conn, err := s.dial()
	if err == nil {
		err = conn.Close()
	}
	return true, err
}

func newSyslogSink(where, replica string, m *marks) (*syslogSink, error) {
	s := &syslogSink{chain: "syslog/" + replica, replica: replica, marks: m}
	var ok bool
	if where == "local" {
		return s, nil
	}
	if s.addr, ok = strings.CutPrefix(where, "unix:"); ok && s.addr != "" {
		s.network = "unixgram"
		return s, nil
	}
	if s.addr, ok = strings.CutPrefix(where, "tcp://"); ok && s.addr != "" {
		s.network = "tcp"
		return s, nil
	}
	return nil, fmt.Errorf("audit: syslog %q: it must be local, unix:/path or tcp://host:port", where)
}

// dial connects. A write that is sent by what it returns ends within the time of a sink.
func (s *syslogSink) dial() (conn net.Conn, err error) {
	if s.network != "" {
		return net.DialTimeout(s.network, s.addr, within)
	}
	var errs []error
	for _, addr := range localSyslog {
		for _, network := range []string{"unixgram", "unix"} {
			if conn, err = net.DialTimeout(network, addr, within); err == nil {
				return conn, nil
			}
			errs = append(errs, err)
		}
	}
	return nil, errors.Join(errs...)
}

// connect connects unless there is a connection whose other end is there. If that has gone, lines
// that were sent to it may be lost.
func (s *syslogSink) connect() (err error) {
	if s.conn != nil {
		if err = ended(s.conn); err == nil {
			return nil
		}
		s.lose(err)
		s.Close()
	}
	s.conn, err = s.dial()
	return err
}

// lose notes that the lines that were sent last may be lost.
func (s *syslogSink) lose(why error) {
	if s.sent > 0 {
		s.marks.miss(s.chain, time.Now(), s.sent, 0, fmt.Errorf("syslog has gone, perhaps without these: %w", why))
		s.sent = 0
	}
}

// ended returns an error if nothing that is sent over conn arrives any more.
func ended(conn net.Conn) error {
	if conn.RemoteAddr().Network() == "unixgram" {
		return nil // a write tells
	}
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		return err
	}
	var n int
	var peeked error
	if err := raw.Control(func(fd uintptr) {
		n, _, peeked = unix.Recvfrom(int(fd), make([]byte, 1), unix.MSG_PEEK|unix.MSG_DONTWAIT)
	}); err != nil {
		return err
	}
	switch {
	case errors.Is(peeked, unix.EAGAIN), peeked == nil && n > 0:
		return nil
	case peeked == nil:
		return io.EOF
	}
	return peeked
}

func (s *syslogSink) write(_ context.Context, b batch) (_ []Head, err error) {
	s.until = time.Now().Add(sendWithin)
	if err := s.connect(); err != nil {
		return nil, err
	}
	if mark := s.marks.get(s.chain); mark.Number > s.last.Number {
		s.last = mark
	}
	s.last.Chain = s.chain
	text, heads, err := b.lines(s.last, s.replica)
	if err != nil {
		return nil, err
	}
	for i, line := range bytes.SplitAfter(bytes.TrimSuffix(text, []byte("\n")), []byte("\n")) {
		if err := s.send(line); err != nil {
			return nil, err
		}
		s.last = heads[i] // it is there, whatever becomes of the others
		s.marks.see(s.last)
		if s.conn.RemoteAddr().Network() != "unixgram" {
			s.sent++
		}
	}
	return heads, nil
}

// send sends a line. A socket of a syslog that was started anew is opened once more.
func (s *syslogSink) send(line []byte) error {
	err := s.sendOnce(line)
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	s.lose(err)
	if s.conn, err = s.dial(); err != nil {
		s.conn = nil
		return err
	}
	return s.sendOnce(line)
}

// sendOnce sends a line, and closes the connection if it cannot.
func (s *syslogSink) sendOnce(line []byte) error {
	const priority = int(syslog.LOG_NOTICE | syslog.LOG_AUTHPRIV)
	line = bytes.TrimSuffix(line, []byte("\n"))
	head := fmt.Sprintf("<%d>%s", priority, time.Now().Format(time.Stamp))
	if s.network == "tcp" {
		host, _ := os.Hostname() // as package log/syslog, without one if there is none
		head = fmt.Sprintf("<%d>%s %s", priority, time.Now().Format(time.RFC3339), host)
	}
	_ = s.conn.SetWriteDeadline(s.until) // else syslog that stands still would hang it
	_, err := fmt.Fprintf(s.conn, "%s lockstep-audit[%d]: %s\n", head, os.Getpid(), line)
	if err != nil {
		s.Close()
	}
	return err
}

// look implements [looker].
func (s *syslogSink) look() error {
	if s.conn != nil && s.conn.RemoteAddr().Network() != "unixgram" {
		err := s.connect()
		if err == nil {
			s.sent = 0
		}
		return err
	}
	conn, err := s.dial()
	if err != nil {
		return err
	}
	if s.conn == nil {
		s.conn = conn
		return nil
	}
	return conn.Close()
}

func (s *syslogSink) Close() error {
	if s.conn == nil {
		return nil
	}
	conn := s.conn
	s.conn = nil
	return conn.Close()
}
