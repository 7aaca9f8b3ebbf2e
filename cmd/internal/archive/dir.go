package archive

import (
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// Dir yields the folders of a directory, by name. It keeps all names in memory, some 50 MB for a
// million, and the files of one folder. After an error it ends.
func Dir(root *os.File) iter.Seq2[Pair, error] {
	return func(yield func(Pair, error) bool) {
		names, err := root.Readdirnames(-1)
		if err != nil {
			yield(Pair{}, err)
			return
		}
		slices.Sort(names)
		for _, name := range names {
			folder := filepath.Join(root.Name(), name)
			if fi, err := os.Stat(folder); strings.HasPrefix(name, ".") || err == nil && !fi.IsDir() {
				continue
			}
			p := Pair{Folder: name}
			if p.Chain, p.Err = readFile(filepath.Join(folder, chainFile)); p.Err == nil {
				p.Key, p.Err = readFile(filepath.Join(folder, keyFile))
			}
			if !yield(p, nil) {
				return
			}
		}
	}
}

// readFile reads a regular file, also through links, which a Kubernetes volume has. It waits for
// nothing else.
func readFile(name string) ([]byte, error) {
	// a pipe without a writer would hang
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if fi, err := f.Stat(); err != nil {
		return nil, err
	} else if !fi.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file", name)
	}
	return io.ReadAll(io.LimitReader(f, maxFile))
}
