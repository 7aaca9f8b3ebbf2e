package natsd

import (
	"fmt"
	"log/slog"
)

// logger passes the server's log on at level debug. What an operator must know is returned by Run.
type logger struct {
	log   *slog.Logger
	fatal chan string // fatal gets the first fatal message.
}

func (l *logger) say(level, format string, v []any) {
	l.log.Debug("nats server", "level", level, "words", fmt.Sprintf(format, v...))
}

func (l *logger) Noticef(format string, v ...any) { l.say("notice", format, v) }
func (l *logger) Warnf(format string, v ...any)   { l.say("warn", format, v) }
func (l *logger) Errorf(format string, v ...any)  { l.say("error", format, v) }
func (l *logger) Debugf(format string, v ...any)  { l.say("debug", format, v) }
func (l *logger) Tracef(format string, v ...any)  { l.say("trace", format, v) }

func (l *logger) Fatalf(format string, v ...any) {
	l.say("fatal", format, v)
	select {
	case l.fatal <- fmt.Sprintf(format, v...):
	default:
	}
}
