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
	before, err := s.f.Stat()
	if err != nil {
		return nil, err
	}
	n, err := s.f.Write(text)
	if err == nil {
		err = s.f.Sync()
	}
	if err != nil {
		return nil, errors.Join(err, s.takeBack(before.Size(), n))
	}
	s.last = heads[len(heads)-1]
	return heads, nil
}

// takeBack removes the n bytes that a failed write left behind end. So a full disk leaves no piece
// of a line, which would look like tampering. Bytes of somebody else stay.
func (s *fileSink) takeBack(end int64, n int) error {
	now, err := s.f.Stat()
	if err != nil || n == 0 || now.Size() != end+int64(n) {
		return err
	}
	return s.f.Truncate(end)
}

// look implements [looker].
func (s *fileSink) look() error {
	if s.f != nil && s.same() {
		return room(s.path)
	}
	return LookAtFile(s.path)
}

// same reports whether the file that is open is still the one of that name.
func (s *fileSink) same() bool {
	now, err := os.Stat(s.path)
	have, err2 := s.f.Stat()
	return err == nil && err2 == nil && os.SameFile(now, have)
}

func notRegular(path string) error { return fmt.Errorf("%s is not a regular file", path) }

// open opens the file, unless it is open and still the one of that name.
func (s *fileSink) open(b batch) error {
	if s.f != nil {
		if s.same() {
			return nil
		}
		if err := s.Close(); err != nil {
			return err
		}
	}
	if st, err := os.Stat(s.path); err == nil && !st.Mode().IsRegular() {
		return notRegular(s.path) // to open a FIFO or a device may do something by itself
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
		return notRegular(s.path)
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
