package logs

import (
	"bytes"
	"io"
	"log"
	"log/slog"

	"google.golang.org/grpc/grpclog"
)

// Libraries makes to the log of the libraries of this process, which would write text to standard
// error. It is called before any of them is used. What remains is what the Go runtime says of its
// own end.
func Libraries(to *slog.Logger) {
	log.SetFlags(0)
	log.SetOutput(said{to})
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, said{to}))
}

// said makes a line of a log of each text that is written to it.
type said struct{ log *slog.Logger }

func (s said) Write(b []byte) (int, error) {
	s.log.Warn("a library has something to say", "says", string(bytes.TrimSpace(b)))
	return len(b), nil
}
