package journal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/lockstep-tls/lockstep/events"
)

// Config says where a [Journal] is, and how large it may get.
type Config struct {
	// Dir is its folder. It is made if it is missing.
	Dir string
	// SegmentBytes is when a new file is begun. The default is 1 MiB.
	SegmentBytes int64
	// NodeSegments and Segments are how many files there are at most: of lines about nodes, and of
	// all others. The defaults are 12 and 4.
	NodeSegments, Segments int
}

// Line is an event with its number.
type Line struct {
	Seq uint64 `json:"seq"`
	events.Event
}

// maxLine bounds a line in bytes, without its hosts. A longer text is cut.
const maxLine = 4 << 10

// Journal is open. All methods are safe for concurrent use.
type Journal struct {
	cfg Config

	mu    sync.Mutex
	seq   uint64 // of the last line
	rings [2]ring
}

// These are the rings of segments.
const (
	ofNodes = iota
	ofOthers
)

var ringNames = [2]string{"nodes", "others"}

// ring is a row of segments. The newest one is open for appending.
type ring struct {
	name string
	max  int
	segs []segment
	file *os.File // file is nil until the first line.
	size int64
}

// segment is a file of lines. It is named by the number of its first line.
type segment struct {
	path  string
	first uint64
}

const suffix = ".jsonl"

// Open reads which segments there are, and cuts off a torn last line.
func Open(c Config) (*Journal, error) {
	if c.SegmentBytes == 0 {
		c.SegmentBytes = 1 << 20
	}
	if c.NodeSegments == 0 {
		c.NodeSegments = 12
	}
	if c.Segments == 0 {
		c.Segments = 4
	}
	j := &Journal{cfg: c}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("the record of events: %w", err)
	}
	for i := range j.rings {
		j.rings[i] = ring{name: ringNames[i], max: []int{c.NodeSegments, c.Segments}[i]}
		last, err := j.rings[i].open(c.Dir)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("the record of events: %w", err), j.Close())
		}
		j.seq = max(j.seq, last)
	}
	return j, nil
}

// open finds the segments of a ring, and returns the number of its last line.
func (r *ring) open(dir string) (last uint64, err error) {
	files, err := os.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	for _, f := range files {
		number, ours := strings.CutPrefix(f.Name(), r.name+"-")
		number, whole := strings.CutSuffix(number, suffix)
		first, err := strconv.ParseUint(number, 10, 64)
		if !ours || !whole || err != nil {
			continue
		}
		r.segs = append(r.segs, segment{filepath.Join(dir, f.Name()), first})
	}
	slices.SortFunc(r.segs, func(a, b segment) int { return strings.Compare(a.path, b.path) })
	if len(r.segs) == 0 {
		return 0, nil
	}
	newest := r.segs[len(r.segs)-1]
	b, err := os.ReadFile(newest.path)
	if err != nil {
		return 0, err
	}
	if r.file, err = os.OpenFile(newest.path, os.O_WRONLY|os.O_APPEND, 0); err != nil {
		return 0, err
	}
	r.size = int64(bytes.LastIndexByte(b, '\n') + 1)
	if err := r.file.Truncate(r.size); err != nil {
		return 0, err
	}
	last = newest.first
	for text := range bytes.Lines(b[:r.size]) {
		var l struct {
			Seq uint64 `json:"seq"`
		}
		if json.Unmarshal(text, &l) == nil {
			last = max(last, l.Seq)
		}
	}
	return last, nil
}

// Append writes events in their order. After an error none, some or all of those of a ring may
// stand in the journal, but no half line.
func (j *Journal) Append(all ...events.Event) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	var text [2][]byte
	var first [2]uint64
	for _, e := range all {
		j.seq++
		of := ofOthers
		if events.Kind(e.Kind).Is("node") {
			of = ofNodes
		}
		b, err := encode(Line{j.seq, e})
		if err != nil {
			return fmt.Errorf("the record of events: %w", err)
		}
		if first[of] == 0 {
			first[of] = j.seq
		}
		text[of] = append(append(text[of], b...), '\n')
	}
	var errs []error
	for i := range text {
		if len(text[i]) > 0 {
			errs = append(errs, j.rings[i].append(j.cfg, first[i], text[i]))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("the record of events: %w", err)
	}
	return nil
}

func encode(l Line) ([]byte, error) {
	hosts := l.Hosts // they are not text, and have a bound of their own
	l.Hosts = ""
	b, err := json.Marshal(l)
	if err == nil && len(b) > maxLine {
		cut := maxLine / 8 // an escaped byte takes six
		for _, s := range []*string{&l.Text, &l.Why, &l.Name, &l.Node, &l.By, &l.Audit} {
			if len(*s) > cut {
				*s = strings.ToValidUTF8((*s)[:cut], "") + "…"
			}
		}
		b, err = json.Marshal(l)
	}
	if err == nil && len(hosts) > 0 {
		l.Hosts = hosts
		b, err = json.Marshal(l)
	}
	return b, err
}

// append writes text, whose first line has that number.
func (r *ring) append(c Config, first uint64, text []byte) error {
	if r.file == nil || r.size > 0 && r.size+int64(len(text)) > c.SegmentBytes {
		if err := r.begin(c.Dir, first); err != nil {
			return err
		}
	}
	n, err := r.file.Write(text)
	if err != nil {
		// What was written of it would be half a line for the next one.
		return errors.Join(err, r.file.Truncate(r.size))
	}
	r.size += int64(n)
	return nil
}

// begin begins a segment, and drops the oldest ones.
func (r *ring) begin(dir string, first uint64) error {
	s := segment{filepath.Join(dir, fmt.Sprintf("%s-%020d%s", r.name, first, suffix)), first}
	f, err := os.OpenFile(s.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	if r.file != nil {
		// A failure loses lines only if the machine crashes too.
		_ = r.file.Sync()
		r.file.Close()
	}
	r.file, r.size, r.segs = f, 0, append(r.segs, s)
	for len(r.segs) > r.max {
		if err := os.Remove(r.segs[0].path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		r.segs = r.segs[1:]
	}
	return nil
}

// Sync makes what was appended last over a crash of the machine.
func (j *Journal) Sync() error {
	j.mu.Lock()
	files := []*os.File{j.rings[ofNodes].file, j.rings[ofOthers].file}
	j.mu.Unlock()
	var errs []error
	for _, f := range files {
		if f == nil {
			continue
		}
		if err := f.Sync(); !errors.Is(err, os.ErrClosed) { // a new segment has begun
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Close syncs and closes the journal.
func (j *Journal) Close() error {
	err := j.Sync()
	j.mu.Lock()
	defer j.mu.Unlock()
	for i := range j.rings {
		if f := j.rings[i].file; f != nil {
			err = errors.Join(err, f.Close())
		}
	}
	return err
}
