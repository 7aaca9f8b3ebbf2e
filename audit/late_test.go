package audit

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// lateSink takes lines, and says so late. Its looks may hang.
type lateSink struct {
	sink
	late, looks time.Duration
}

func (s lateSink) write(ctx context.Context, b batch) ([]Head, error) {
	heads, err := s.sink.write(ctx, b)
	time.Sleep(s.late)
	return heads, err
}

func (s lateSink) look() error {
	time.Sleep(s.looks)
	return nil
}

// Each fsync of a disk takes longer than an append may. The file has every line, and none tells
// that some are missing.
func TestAFileThatIsSlowHasEveryLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := temp(t, "audit.log")
		l := open(t, newFaulty(), func(c *Config) { c.File, c.within = file, within })
		l.sinks[1].sink = lateSink{sink: l.sinks[1].sink, late: within * 5 / 4}
		defer runs(t, l)()
		for range 5 {
			fill(t, l, 1)
			time.Sleep(time.Minute)
			if d := l.Degraded(); len(d) > 0 {
				t.Fatal(d)
			}
		}
		text, err := os.ReadFile(file)
		if n := bytes.Count(text, []byte("\n")); err != nil || n != 5 || bytes.Contains(text, []byte(missedLine)) {
			t.Errorf("%d lines, %v: %s", n, err, text)
		}
		rs, err := l.VerifyLines(t.Context(), bytes.NewReader(text))
		if err != nil || len(rs) != 1 || len(rs[0].Problems) > 0 {
			t.Errorf("%+v %v", rs, err)
		}
	})
}

// A write of the store is done, and the answer comes late or is lost.
func TestAStoreThatTookALineIsNotToldThatItLacksIt(t *testing.T) {
	for name, after := range map[string]func() error{
		"late": func() error { time.Sleep(within * 5 / 4); return nil },
		"lost": func() error { time.Sleep(within / 2); return errors.New("the connection was lost") },
		"timed out": func() error {
			time.Sleep(within / 2)
			return context.DeadlineExceeded
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newFaulty()
				l := open(t, s, func(c *Config) { c.File, c.within = temp(t, "audit.log"), within })
				defer runs(t, l)()
				fill(t, l, 1)
				s.setAfter(func(key string) error {
					if key == headName {
						return after()
					}
					return nil
				})
				for range 5 {
					fill(t, l, 1)
					time.Sleep(time.Minute)
					if d := l.Degraded(); len(d) > 0 {
						t.Fatal(d)
					}
				}
				s.setAfter(nil)
				if line := newest(t, l); line.What != "" {
					t.Errorf("it says that lines are missing: %+v", line)
				}
				sound(t, l, 6)
			})
		})
	}
}

// What was refused was not done. So it counts as refused also if its line came after all.
func TestALateLineOfWhatWasRefusedIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFaulty()
		l := open(t, s, hasty)
		defer runs(t, l)()
		fill(t, l, 1)
		s.setAfter(func(string) error { time.Sleep(within * 5 / 4); return nil })
		if _, err := l.Append(t.Context(), Entry{What: "x"}); !errors.Is(err, ErrUnwritten) {
			t.Fatal(err)
		}
		s.setAfter(nil)
		time.Sleep(time.Minute)
		if line := newest(t, l); !strings.Contains(line.Why, "lines that no sink took: 1") {
			t.Errorf("%+v", line)
		}
		sound(t, l, 3)
	})
}

// It may have taken the line that tells of a gap each time.
func TestASinkThatTakesTooLongIsToldMoreAndMoreRarely(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFaulty()
		l := open(t, s, func(c *Config) { c.File, c.within = temp(t, "audit.log"), within })
		defer runs(t, l)()
		fill(t, l, 1)
		s.set(func(ctx context.Context, op, key string) error {
			if op != "swap" || key != headName {
				return nil
			}
			<-ctx.Done()
			return ctx.Err()
		})
		fill(t, l, 1)
		s.mu.Lock()
		before := s.swaps
		s.mu.Unlock()
		time.Sleep(time.Minute)
		s.mu.Lock()
		tries := s.swaps - before
		s.mu.Unlock()
		if tries < 3 || tries > 12 {
			t.Errorf("it was told %d times in a minute", tries)
		}
		s.set(nil)
		time.Sleep(maxPause + lookEvery)
		if d := l.Degraded(); len(d) > 0 {
			t.Error(d)
		}
		sound(t, l, 2)
	})
}

// A look at a sink hangs. Others are looked at meanwhile, and an append waits for no look.
func TestALookThatHangsHoldsNoAppendUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := open(t, newFaulty(), hasty)
		for _, name := range []string{"file", "syslog"} {
			f := &fileSink{path: temp(t, name), marks: l.marks, chain: name + "/r1", replica: "r1"}
			l.sinks = append(l.sinks, newBounded(name, f.chain, lateSink{sink: f, looks: time.Minute}))
			t.Cleanup(func() { f.Close() })
		}
		began := time.Now()
		looked := make(chan time.Duration)
		go func() {
			l.lookAtSinks(t.Context())
			looked <- time.Since(began)
		}()
		synctest.Wait()
		fill(t, l, 1)
		if took := time.Since(began); took > within {
			t.Errorf("an append took %s", took)
		}
		if took := <-looked; took > within {
			t.Errorf("looks took %s", took)
		}
		began = time.Now()
		l.lookAtSinks(t.Context())
		if took := time.Since(began); took > within {
			t.Errorf("it waited for a look that hangs: %s", took)
		}
		time.Sleep(2 * time.Minute)
	})
}
