package backup

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"
)

const format = 1

// maxLine bounds a line, in bytes. The largest record, a ring with its history, is far smaller.
const maxLine = 32 << 20

// ErrBad means that it is no backup, or one that was cut short or changed.
var ErrBad = errors.New("not a whole backup")

type header struct {
	Format int       `json:"lockstep_backup"`
	Made   time.Time `json:"made"`
}

type record struct {
	Key   string  `json:"key"`
	Value *[]byte `json:"value"`
}

type trailer struct {
	Records int    `json:"records"`
	SHA256  string `json:"sha256"`
}

// Writer writes the inner text of a backup.
type Writer struct {
	w    io.Writer
	hash hash.Hash
	last string
	n    int
}

// NewWriter returns a Writer, and writes the first line.
func NewWriter(w io.Writer, made time.Time) (*Writer, error) {
	b := &Writer{w: w, hash: sha256.New()}
	return b, b.line(header{format, made.UTC().Truncate(time.Second)})
}

// Record writes a record. Keys must come in byte order.
func (b *Writer) Record(key string, val []byte) error {
	if key <= b.last {
		return fmt.Errorf("backup: %q after %q", key, b.last)
	}
	if val == nil {
		val = []byte{}
	}
	b.last = key
	b.n++
	return b.line(record{key, &val})
}

// Close writes the last line. It closes nothing.
func (b *Writer) Close() error {
	return b.line(trailer{b.n, hex.EncodeToString(b.hash.Sum(nil))})
}

func (b *Writer) line(v any) error {
	line, err := json.Marshal(v)
	if err != nil {
		return err
	}
	line = append(line, '\n')
	b.hash.Write(line)
	_, err = b.w.Write(line)
	return err
}

// Reader reads the inner text of a backup.
type Reader struct {
	Made time.Time

	r    *bufio.Reader
	hash hash.Hash
	last string
	n    int
}

// NewReader returns a Reader, and reads the first line. Errors of this package's readers wrap
// [ErrBad], or are those of the underlying reader. None quotes a value.
func NewReader(r io.Reader) (*Reader, error) {
	b := &Reader{r: bufio.NewReaderSize(r, 64<<10), hash: sha256.New()}
	line, err := b.line()
	if err == io.EOF {
		return nil, fmt.Errorf("%w: it is empty", ErrBad)
	}
	if err != nil {
		return nil, err
	}
	b.hash.Write(line)
	var h header
	if json.Unmarshal(line, &h) != nil || h.Format == 0 {
		return nil, fmt.Errorf("%w: it does not begin like one", ErrBad)
	}
	if h.Format != format {
		return nil, fmt.Errorf("%w: it has format %d, this version reads %d", ErrBad, h.Format, format)
	}
	b.Made = h.Made
	return b, nil
}

// Next returns the next record. It returns io.EOF once the last line was read and is right.
func (b *Reader) Next() (key string, val []byte, err error) {
	line, err := b.line()
	if err == io.EOF {
		return "", nil, fmt.Errorf("%w: it ends after %d records, and not with its last line", ErrBad, b.n)
	}
	if err != nil {
		return "", nil, err
	}
	var r record
	if err := strict(line, &r); err != nil || r.Key == "" || r.Value == nil {
		return "", nil, b.end(line)
	}
	if r.Key <= b.last {
		return "", nil, fmt.Errorf("%w: the record %.100q comes after %.100q", ErrBad, r.Key, b.last)
	}
	b.hash.Write(line)
	b.last = r.Key
	b.n++
	return r.Key, *r.Value, nil
}

// end checks the last line, and that nothing follows.
func (b *Reader) end(line []byte) error {
	var t trailer
	if err := strict(line, &t); err != nil || t.SHA256 == "" {
		return fmt.Errorf("%w: line %d is neither a record nor the end", ErrBad, b.n+2)
	}
	if t.Records != b.n || t.SHA256 != hex.EncodeToString(b.hash.Sum(nil)) {
		return fmt.Errorf("%w: what was read (%d records) is not what its last line says", ErrBad, b.n)
	}
	if _, err := b.line(); err != io.EOF {
		if err == nil {
			err = fmt.Errorf("%w: it goes on after its end", ErrBad)
		}
		return err
	}
	return io.EOF
}

// line returns a line with its newline. The error is io.EOF if there is not one byte of it.
func (b *Reader) line() ([]byte, error) {
	var line []byte
	for {
		part, err := b.r.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case err == nil:
			return line, nil
		case err == io.EOF && len(line) == 0:
			return nil, io.EOF
		case err == io.EOF:
			return nil, fmt.Errorf("%w: it ends within a line", ErrBad)
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		case len(line) > maxLine:
			return nil, fmt.Errorf("%w: a line is longer than %d bytes", ErrBad, maxLine)
		}
	}
}

func strict(line []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("more than one value")
	}
	return nil
}
