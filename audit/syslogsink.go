package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/syslog"
	"strings"
)

// syslogSink sends each line to syslog (facility authpriv, severity notice, tag lockstep-audit).
// What syslog does with it is not known here, so its chain goes on from the mark.
type syslogSink struct {
	network, addr  string
	chain, replica string
	marks          *marks

	w    *syslog.Writer
	last Head
}

// CheckSyslog returns what is wrong with a [Config.Syslog]. UDP is refused, since it never says
// that nobody listens.
func CheckSyslog(where string) error {
	_, err := newSyslogSink(where, "", nil)
	return err
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

func (s *syslogSink) write(_ context.Context, b batch) (_ []Head, err error) {
	if s.w == nil {
		s.w, err = syslog.Dial(s.network, s.addr, syslog.LOG_NOTICE|syslog.LOG_AUTHPRIV, "lockstep-audit")
		if err != nil {
			return nil, err
		}
	}
	if mark := s.marks.get(s.chain); mark.Number > s.last.Number {
		s.last = mark
	}
	s.last.Chain = s.chain
	text, heads, err := b.lines(s.last, s.replica)
	if err != nil {
		return nil, err
	}
	for _, line := range bytes.SplitAfter(bytes.TrimSuffix(text, []byte("\n")), []byte("\n")) {
		if _, err := s.w.Write(line); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	s.last = heads[len(heads)-1]
	return heads, nil
}

func (s *syslogSink) Close() error {
	if s.w == nil {
		return nil
	}
	w := s.w
	s.w = nil
	return w.Close()
}
