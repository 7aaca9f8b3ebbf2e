package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/lockstep-tls/lockstep/internal/atomicfile"
)

// fileSink appends to a file of this replica's own, one line of JSON each, synced. If the file
// was moved away, as logrotate does, it is begun anew where the chain had come to.
type fileSink struct {
	path, chain, replica string
	marks                *marks

	f    *os.File
	last Head
}

func (s *fileSink) write(_ context.Context, b batch) (heads []Head, err error) {
	if err := s.open(b); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil { // what the file holds now is not known
			err = errors.Join(err, s.Close())
		}
	}()
	text, heads, err := b.lines(s.last, s.replica)
	if err != nil {
		return nil, err
	}
	if _, err := s.f.Write(text); err != nil {
		return nil, err
	}
	if err := s.f.Sync(); err != nil {
		return nil, err
	}
	s.last = heads[len(heads)-1]
	return heads, nil
}

// open opens the file, unless it is open and still the one of that name.
func (s *fileSink) open(b batch) error {
	if s.f != nil {
		now, err := os.Stat(s.path)
		have, err2 := s.f.Stat()
		if err == nil && err2 == nil && os.SameFile(now, have) {
			return nil
		}
		if err := s.Close(); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(s.path, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	s.f = f
	if err := s.resume(b); err != nil {
		return errors.Join(err, s.Close())
	}
	return nil
}

// resume finds the last line. A piece of a line, which only a crash leaves, stays and gets a
// newline.
func (s *fileSink) resume(b batch) error {
	info, err := s.f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", s.path)
	}
	s.last = s.marks.get(s.chain)
	s.last.Chain = s.chain
	if info.Size() == 0 {
		return atomicfile.SyncDir(filepath.Dir(s.path))
	}
	from := max(0, info.Size()-4*maxLine)
	tail, err := io.ReadAll(io.NewSectionReader(s.f, from, info.Size()-from))
	if err != nil {
		return err
	}
	for _, raw := range split(tail) {
		if l, err := decode(b.mac, raw); err == nil && l.Chain == s.chain && l.Number >= s.last.Number {
			s.last = l.Head()
		}
	}
	if !bytes.HasSuffix(tail, []byte("\n")) {
		_, err = s.f.Write([]byte("\n"))
	}
	return err
}

func (s *fileSink) Close() error {
	if s.f == nil {
		return nil
	}
	f := s.f
	s.f = nil
	return f.Close()
}
