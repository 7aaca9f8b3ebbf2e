package archive

import (
	"archive/tar"
	"bufio"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"path"
	"slices"
	"strings"
)

// maxWaiting bounds, in bytes, what waits in memory for the other file of its folder.
const maxWaiting = 256 << 20

// overhead is about how many bytes a waiting folder takes besides its files.
const overhead = 256

// Tar yields each folder of an archive when both its files have been read, in whatever order they
// come. Until then one of them waits in memory. Folders with one file only come last, with their
// Err. After an error, which begins with name, it ends.
func Tar(r io.Reader, name string) iter.Seq2[Pair, error] {
	return func(yield func(Pair, error) bool) {
		a := newReader(r)
		for {
			p, err := a.next()
			if err == io.EOF {
				break
			}
			if err != nil {
				yield(Pair{}, fmt.Errorf("%s: %w", name, err))
				return
			}
			if p != nil && !yield(*p, nil) {
				return
			}
		}
		for _, folder := range slices.Sorted(maps.Keys(a.waiting)) {
			if !yield(a.waiting[folder].half(), nil) {
				return
			}
		}
	}
}

type reader struct {
	tar     *tar.Reader
	begun   bool
	waiting map[string]*Pair // waiting has the folders of which one file is missing.
	size    int              // size is that of waiting.
	most    int              // most is the limit of size.
}

func newReader(r io.Reader) *reader {
	return &reader{tar: tar.NewReader(bufio.NewReaderSize(r, 256<<10)), waiting: map[string]*Pair{}, most: maxWaiting}
}

// next reads one file. It returns its folder if both files are read now.
func (a *reader) next() (*Pair, error) {
	h, err := a.tar.Next()
	if err != nil {
		if !a.begun && errors.Is(err, tar.ErrHeader) {
			err = fmt.Errorf("%w: is it compressed? (zcat FILE | lockstep cert import -)", err)
		}
		return nil, err
	}
	a.begun = true
	folder, file := path.Split(path.Clean("/" + h.Name))
	folder = strings.Trim(folder, "/")
	if file != chainFile && file != keyFile || strings.Contains("/"+folder, "/.") {
		return nil, nil
	}
	p := a.waiting[folder]
	if p == nil {
		p = &Pair{Folder: folder}
		a.waiting[folder] = p
		a.size += overhead + len(folder)
	}
	if sparse(h) { // a few bytes may stand for any number
		return nil, fmt.Errorf("%.300q has holes: make the archive without --sparse (-S)", h.Name)
	}
	b, err := readSome(a.tar, h.Size)
	a.size -= p.Size()
	switch {
	case err != nil:
		return nil, fmt.Errorf("%.300q: %w", h.Name, err)
	case h.Typeflag != tar.TypeReg:
		p.Err = fmt.Errorf("%s is a link or no file: make the archive with tar -h", h.Name)
	case strings.Contains(folder, "/"):
		p.Err = fmt.Errorf("it lies too deep: make the archive of the folders themselves (tar -C DIR -cf FILE .)")
	case file == chainFile:
		p.Chain = b
	default:
		p.Key = b
	}
	if a.size += p.Size(); a.size > a.most {
		return nil, errors.New(
			"too many folders are only half there: make the archive folder by folder (tar -C DIR -cf FILE .)")
	}
	if p.Err != nil || p.Chain == nil || p.Key == nil {
		return nil, nil
	}
	delete(a.waiting, folder)
	a.size -= p.Size() + overhead + len(folder)
	return p, nil
}

// sparse reports whether the file is larger than what the archive holds of it.
func sparse(h *tar.Header) bool {
	if h.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// half returns p with an Err that says what is missing.
func (p Pair) half() Pair {
	if p.Err == nil {
		missing := keyFile
		if p.Chain == nil {
			missing = chainFile
		}
		p.Err = fmt.Errorf("there is no %s", missing)
	}
	return p
}
