package archive

import (
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
	"syscall"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/keysource/layout"
)

// Dir yields the folders of a directory, by name, and then the certificates whose files stand in
// the directory itself. It keeps all names in memory, some 50 MB for a million, and the files of
// one folder. After an error it ends.
func Dir(root *os.File) iter.Seq2[Pair, error] {
	return func(yield func(Pair, error) bool) {
		names, err := root.Readdirnames(-1)
		if err != nil {
			yield(Pair{}, err)
			return
		}
		slices.Sort(names)
		var files []string
		seen := map[string]string{} // by the folder of a name, the folder that was read
		partner := partners(root.Name(), names)
		done := map[string]bool{}
		for _, name := range names {
			if strings.HasPrefix(name, ".") {
				continue
			}
			folder := filepath.Join(root.Name(), name)
			if fi, err := os.Stat(folder); err == nil && !fi.IsDir() {
				if layout.MayMatter(name) {
					files = append(files, name)
				}
				continue
			}
			if layout.Program(name, names) {
				continue
			}
			if done[name] {
				continue
			}
			two := readBoth(folder)
			if other := partner[name]; two == nil && other != "" {
				first, second, ok := both(readFolder(folder), readFolder(filepath.Join(root.Name(), other)))
				if ok {
					two, done[other] = []Pair{first, second}, true
				}
			}
			if len(two) == 2 {
				seen[name], seen[two[0].Folder] = name, name
				if !yield(two[0], nil) || !yield(two[1], nil) {
					return
				}
				continue
			}
			p := readFolder(folder)
			if _, usual := slices.BinarySearch(names, p.Folder); p.Folder != name {
				if other := seen[p.Folder]; other != "" || usual {
					if usual {
						other = p.Folder
					}
					p = Pair{Folder: name, Err: again(p.Folder, other)}
				} else {
					seen[p.Folder] = name
				}
			}
			if !yield(p, nil) {
				return
			}
		}
		flat(files, func(f string) bool {
			_, usual := slices.BinarySearch(names, f)
			return usual || seen[f] != ""
		}, func(file string) ([]byte, error) { return readFile(filepath.Join(root.Name(), file)) }, yield)
	}
}

func again(name, other string) error {
	return fmt.Errorf("it is %s again, which %s is already: remove one", name, other)
}

// readFolder reads the files of a folder.
func readFolder(folder string) (p Pair) {
	p.Folder = filepath.Base(folder)
	files := layout.Files{Chain: chainFile, Key: keyFile}
	has := func(file string) bool { _, err := os.Stat(filepath.Join(folder, file)); return err == nil }
	if !has(chainFile) || !has(keyFile) {
		names, err := readNames(folder)
		if err == nil {
			files, err = layout.Find(names)
		}
		if err != nil && !slices.Contains(names, chainFile) {
			if p.Err = err; len(names) == 0 {
				_, p.Err = readFile(filepath.Join(folder, chainFile))
			} else if more := layout.Deeper(folder, names, func(below string) []string {
				files, _ := readNames(filepath.Join(folder, below))
				return files
			}); more != "" {
				p.Err = fmt.Errorf("%w%s", err, more)
			}
			return p
		}
	}
	var pem keysource.PEM
	if pem.Chain, p.Err = readFile(filepath.Join(folder, files.Chain)); p.Err != nil {
		return p
	}
	if files.Key == "" && !hasKey(pem.Chain) {
		files.Key = keyFile // is named as missing
	}
	if files.Key != "" {
		if pem.Key, p.Err = readFile(filepath.Join(folder, files.Key)); p.Err != nil {
			return p
		}
	}
	return pairOf(p.Folder, files, has, pem)
}

func readNames(folder string) ([]string, error) {
	f, err := os.Open(folder)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}

// flat yields the certificates whose files stand in the directory itself. taken reports whether a
// folder has been yielded.
func flat(files []string, taken func(string) bool, read func(string) ([]byte, error),
	yield func(Pair, error) bool) {
	all, bad := layout.FindFlat(files)
	for _, file := range slices.Sorted(maps.Keys(bad)) {
		if !yield(Pair{Folder: file, Err: errors.New("it " + bad[file])}, nil) {
			return
		}
	}
	byFolder := map[string][]Pair{} // a host may have two
	var folders []string
	for _, f := range all {
		p := Pair{Folder: layout.Folder(f.Name)}
		switch p.Chain, p.Err = read(f.Chain); {
		case p.Err != nil:
		case taken(p.Folder):
			p.Err = fmt.Errorf("%s is %s again: remove one", f.Chain, p.Folder)
		case f.Key != "":
			p.Key, p.Err = read(f.Key)
		case hasKey(p.Chain):
			p.Key = p.Chain
		default:
			p.Err = fmt.Errorf("%s has no private key, and there is no %s.key", f.Chain,
				strings.TrimSuffix(f.Chain, path.Ext(f.Chain)))
		}
		if byFolder[p.Folder] == nil {
			folders = append(folders, p.Folder)
		}
		byFolder[p.Folder] = append(byFolder[p.Folder], p)
	}
	for _, folder := range folders {
		of := byFolder[folder]
		if len(of) > 1 {
			var ok bool
			if of[0], of[1], ok = both(of[0], of[1]); !ok && of[1].Err == nil {
				of[1].Err = fmt.Errorf("a file of it is %s again, and the two are not ECDSA and RSA: remove one",
					folder)
			}
			for i := range of[2:] {
				of[2+i].Err = fmt.Errorf("a file of it is %s again: remove one", folder)
			}
		}
		for _, p := range of {
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
