package main

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
)

const (
	crtFile = "tls.crt"
	keyFile = "tls.key"
)

// pair is what one folder holds, or why it cannot be read.
type pair struct {
	folder string
	api.PutCert
	err error
}

// pairs yields the folders of a directory, an archive, or an archive on standard input ("-"). It ends at the first error. What lies hidden,
// as the "..data" of a Kubernetes volume, and files of other names are left out.
func (a *app) pairs(from string) iter.Seq2[pair, error] {
	return func(yield func(pair, error) bool) {
		if from == "-" {
			tarPairs(a.in, "standard input", yield)
			return
		}
		f, err := os.Open(from)
		if err != nil {
			yield(pair{}, err)
			return
		}
		defer f.Close()
		if fi, err := f.Stat(); err != nil {
			yield(pair{}, err)
		} else if fi.IsDir() {
			dirPairs(f, yield)
		} else {
			tarPairs(f, from, yield)
		}
	}
}

func dirPairs(root *os.File, yield func(pair, error) bool) {
	names, err := root.Readdirnames(-1)
	if err != nil {
		yield(pair{}, err)
		return
	}
	slices.Sort(names)
	for _, name := range names {
		folder := filepath.Join(root.Name(), name)
		if fi, err := os.Stat(folder); strings.HasPrefix(name, ".") || err == nil && !fi.IsDir() {
			continue
		}
		p := pair{folder: name}
		p.PutCert, p.err = readPair(filepath.Join(folder, crtFile), filepath.Join(folder, keyFile))
		if !yield(p, nil) {
			return
		}
	}
}

// tarPairs yields each folder when both its files have been read. Until then one of them waits in memory, in whatever order they come.
func tarPairs(r io.Reader, name string, yield func(pair, error) bool) {
	waiting := map[string]*pair{}
	t := tar.NewReader(r)
	for first := true; ; first = false {
		h, err := t.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			if first && errors.Is(err, tar.ErrHeader) {
				err = fmt.Errorf("%w: is it compressed? (zcat FILE | lockstep cert import -)", err)
			}
			yield(pair{}, fmt.Errorf("%s: %w", name, err))
			return
		}
		folder, file := path.Split(path.Clean("/" + h.Name))
		folder = strings.Trim(folder, "/")
		if file != crtFile && file != keyFile || strings.Contains("/"+folder, "/.") {
			continue
		}
		p := waiting[folder]
		if p == nil {
			p = &pair{folder: folder}
			waiting[folder] = p
		}
		switch b, err := io.ReadAll(io.LimitReader(t, maxPEMFile)); {
		case err != nil:
			yield(pair{}, fmt.Errorf("%s: %s: %w", name, h.Name, err))
			return
		case h.Typeflag != tar.TypeReg:
			p.err = fmt.Errorf("%s is a link or no file: make the archive with tar -h", h.Name)
		case strings.Contains(folder, "/"):
			p.err = fmt.Errorf("it lies too deep: make the archive of the folders themselves (tar -C DIR -cf FILE .)")
		case file == crtFile:
			p.Chain = b
		default:
			p.Key = b
		}
		if p.err == nil && p.Chain != nil && p.Key != nil {
			delete(waiting, folder)
			if !yield(*p, nil) {
				return
			}
		}
	}
	for _, folder := range slices.Sorted(maps.Keys(waiting)) {
		p := waiting[folder]
		if p.err == nil {
			missing := keyFile
			if p.Chain == nil {
				missing = crtFile
			}
			p.err = fmt.Errorf("there is no %s", missing)
		}
		if !yield(*p, nil) {
			return
		}
	}
}
