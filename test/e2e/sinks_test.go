package e2e

import (
	"errors"
	"fmt"
	"net"
	"os"
	"testing"
)

// TestASinkThatCannotBeWrittenRefusesNothingWhileTheStoreTakesLines: the file and syslog are away.
// Keys rotate and certificates are put. The status names both, until they are back.
func TestASinkThatCannotBeWrittenRefusesNothingWhileTheStoreTakesLines(t *testing.T) {
	t.Parallel()
	s := newStage(t, setup{later: true})
	folder, socket := s.path("logs"), s.path("syslog.sock")
	s.plane.Args = append(s.plane.Args, "--audit-file", folder+"/audit.log", "--audit-syslog", "unix:"+socket)
	s.start()
	s.awaitPhase("steady", 0)
	s.mustRun("rotate", "--wait", "--timeout", "20s")
	s.writePair("new.example", s.issue("new.example"))
	for _, sink := range []string{"file", "syslog"} {
		s.mustFail(3, "the audit log cannot be written to the "+sink, "status")
		if n := s.metric(fmt.Sprintf("lockstep_audit_sink_failures_total{sink=%q}", sink)); n < 1 {
			t.Errorf("the %s failed %v times", sink, n)
		}
	}
	if n := s.metric("lockstep_audit_refused_total"); n != 0 {
		t.Errorf("%v changes were refused", n)
	}
	s.mustRun("audit", "verify")

	s.ok(os.Mkdir(folder, 0o700))
	l, err := net.ListenPacket("unixgram", socket)
	s.ok(err)
	defer l.Close()
	go func() { // a syslog that nobody reads takes no more after some lines
		for b := make([]byte, 1<<16); ; {
			if _, _, err := l.ReadFrom(b); err != nil {
				return // it is closed
			}
		}
	}()
	s.writePair("new.example", s.issue("new.example"))
	s.eventually(func() error { // sinks are looked at in between, too
		if r := s.lockstep("status"); r.code != 0 {
			return errors.New(r.err)
		}
		return nil
	})
}
