package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
)

var began = api.Started{Scope: "default", Rotation: 8}

func underway(accepted int) api.Rotation {
	return api.Rotation{
		Scope: "default", Rotation: 8, Phase: "distributing", Nodes: api.Count{Live: 3, Accepted: accepted},
		BlockedBy: []string{"envoy-3: has not accepted g5"},
	}
}

func TestAwaitGoesOnWhileLockstepdIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var errs bytes.Buffer
		a := &app{err: &errs}
		start := time.Now()
		polls := 0
		r, err := a.await(t.Context(), began, false, func(context.Context) (api.Rotation, error) {
			polls++
			switch since := time.Since(start); {
			case since < time.Second:
				return underway(1), nil
			case since < 5*time.Second:
				return api.Rotation{}, fmt.Errorf("%w: connection refused", api.ErrUnreachable)
			case since < 6*time.Second: // cut off in the middle of an answer
				return api.Rotation{}, io.ErrUnexpectedEOF
			case since < 7*time.Second:
				return api.Rotation{}, &api.Error{Message: "starting", Code: api.Failed}
			}
			return api.Rotation{Rotation: 8, Ended: true, Outcome: "done"}, nil
		})
		if err != nil || r.Outcome != "done" || time.Since(start) != 7*time.Second || polls != 71 {
			t.Fatalf("%+v, %v after %v and %d polls", r, err, time.Since(start), polls)
		}
		if n := strings.Count(errs.String(), "\n"); n != 2 {
			t.Errorf("%d lines, want one for each change:\n%s", n, errs.String())
		}
	})
}

func TestAwaitEndsByTimeNamingWhatBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var errs bytes.Buffer
		a := &app{err: &errs, limit: 35 * time.Second}
		ctx, cancel := context.WithTimeout(t.Context(), a.limit)
		defer cancel()
		start := time.Now()
		_, err := a.await(ctx, began, false, func(ctx context.Context) (api.Rotation, error) {
			if time.Since(start) < 30*time.Second {
				return underway(2), nil
			}
			<-ctx.Done() // a server that stopped answering
			return api.Rotation{}, ctx.Err()
		})
		if exitCode(err) != exitTimedOut || time.Since(start) != a.limit {
			t.Fatalf("%v after %v", err, time.Since(start))
		}
		for _, want := range []string{
			"rotation 8", "within 35s", "accepted by 2 of 3", "envoy-3: has not accepted g5", "lockstep exclude",
		} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q is not in: %v", want, err)
			}
		}
		if n := strings.Count(errs.String(), "\n"); n != 3 { // at 0, 10 and 20 s
			t.Errorf("%d lines while nothing changed:\n%s", n, errs.String())
		}
	})
}

func TestAwaitEndsAtOnceOnAFinalAnswer(t *testing.T) {
	for code, want := range map[api.Code]int{
		api.NotFound: exitNotFound, api.Denied: exitRefused, api.Refused: exitRefused, api.Usage: exitUsage,
	} {
		a := &app{err: io.Discard}
		polls := 0
		_, err := a.await(t.Context(), began, false, func(context.Context) (api.Rotation, error) {
			polls++
			return api.Rotation{}, &api.Error{Message: "no", Code: code}
		})
		if exitCode(err) != want || polls != 1 {
			t.Errorf("%s: %v, exit code %d after %d polls", code, err, exitCode(err), polls)
		}
	}
}

func TestAwaitInterruptedSaysThatTheRotationGoesOn(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	a := &app{err: io.Discard}
	_, err := a.await(ctx, began, false, func(context.Context) (api.Rotation, error) {
		cancel()
		return underway(1), nil
	})
	if exitCode(err) != exitFailed || !strings.Contains(err.Error(), "goes on") {
		t.Fatal(err)
	}
}

// pty returns both ends of a terminal with the given number of columns.
func pty(t *testing.T, columns uint16) (ours, theirs *os.File) {
	t.Helper()
	ours, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skip("no terminals here: ", err)
	}
	t.Cleanup(func() { ours.Close() })
	n, err := unix.IoctlGetInt(int(ours.Fd()), unix.TIOCGPTN)
	err = errors.Join(err, unix.IoctlSetPointerInt(int(ours.Fd()), unix.TIOCSPTLCK, 0))
	if err != nil {
		t.Fatal(err)
	}
	theirs, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { theirs.Close() })
	if err := unix.IoctlSetWinsize(int(theirs.Fd()), unix.TIOCSWINSZ,
		&unix.Winsize{Col: columns, Row: 24}); err != nil {
		t.Fatal(err)
	}
	return ours, theirs
}

func TestProgressStaysOnOneLineOfATerminal(t *testing.T) {
	ours, theirs := pty(t, 40)
	if got := width(theirs); got != 40 {
		t.Fatalf("%d columns, want 40", got)
	}
	p := newProgress(terminal{plain{theirs}, theirs})
	r := underway(1)
	p.show(r)
	r.BlockedBy = []string{"evil \x1b[2J\nnode"}
	p.show(r)
	r.Nodes.Accepted = 3
	r.BlockedBy = nil
	p.show(r)
	p.clear()
	fmt.Fprint(theirs, "END")
	var got []byte
	for buf := make([]byte, 4096); !bytes.HasSuffix(got, []byte("END")); {
		n, err := ours.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, buf[:n]...)
	}
	lines := strings.Split(string(got), "\r\x1b[K")
	if len(lines) != 5 || lines[0] != "" || lines[4] != "END" {
		t.Fatalf("%q", lines)
	}
	for _, l := range lines[1:4] {
		if len([]rune(l)) > 39 || strings.ContainsAny(l, "\n\x1b") ||
			!strings.HasPrefix(l, "rotation 8 of default: distribut") {
			t.Errorf("%d columns: %q", len([]rune(l)), l)
		}
	}
}
