package archive

import (
	"archive/tar"
	"bufio"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"iter"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/keysource/layout"
)

// maxWaiting bounds, in bytes, what waits in memory for the other file of its folder.
const maxWaiting = 256 << 20

// markedECDSA is behind a folder whose marked files wait. Others of the folder may still come.
const markedECDSA = ":" + string(layout.ECDSA)

// overhead is about how many bytes a waiting folder takes besides its files.
const overhead = 256

// Tar yields each folder of an archive when all its files have been read, in whatever order they
// come. Until then they wait in memory. What is not tls.crt and tls.key comes last, since another
// folder may have the second certificate of the host. So do folders in which a file is missing,
// with their Err. Of certbot's folders only some wait at a time. After an error, which begins with
// name, it ends.
func Tar(r io.Reader, name string) iter.Seq2[Pair, error] {
	return func(yield func(Pair, error) bool) {
		a := newReader(r)
		for {
			pairs, err := a.next()
			if err == io.EOF {
				break
			}
			if err != nil {
				yield(Pair{}, fmt.Errorf("%s: %w", name, err))
				return
			}
			for _, p := range pairs {
				if !yield(p, nil) {
					return
				}
			}
		}
		loose := a.waiting[""]
		delete(a.waiting, "")
		for p := range a.all(slices.Sorted(maps.Keys(a.waiting))) {
			if !yield(p, nil) {
				return
			}
		}
		if loose != nil {
			flat(loose.names(), func(folder string) bool { return a.waiting[folder] != nil || a.isDone(folder) },
				func(file string) ([]byte, error) { return loose.files[file], loose.err }, yield)
		}
	}
}

type reader struct {
	tar     *tar.Reader
	begun   bool
	waiting map[string]*folder // waiting has the folders of which a file may be missing.
	size    int                // size is that of waiting.
	whole   int                // whole is the size of those of waiting that need no further file.
	most    int                // most is the limit of size.
	// done has hashes of the folders that were yielded. Later files of theirs are left out.
	done map[uint64]struct{}
	// stands has the folders of names for which a folder of another name was yielded, by name.
	stands map[string]string
	seed   maphash.Seed
}

// folder is what was read of a folder so far.
type folder struct {
	files map[string][]byte
	err   error
	whole bool // whole reports that it needs no further file.
}

func newReader(r io.Reader) *reader {
	return &reader{
		tar: tar.NewReader(bufio.NewReaderSize(r, 256<<10)), waiting: map[string]*folder{}, most: maxWaiting,
		done: map[uint64]struct{}{}, stands: map[string]string{}, seed: maphash.MakeSeed(),
	}
}

func (a *reader) isDone(folder string) bool {
	_, done := a.done[maphash.String(a.seed, folder)]
	return done
}

// next reads one file. It returns its folder if no further file is needed. It returns many when
// those that wait for a second certificate have become too many.
func (a *reader) next() ([]Pair, error) {
	h, err := a.tar.Next()
	if err != nil {
		if !a.begun && errors.Is(err, tar.ErrHeader) {
			err = fmt.Errorf("%w: is it compressed? (zcat FILE | lockstep cert import -)", err)
		}
		return nil, err
	}
	a.begun = true
	at, file := path.Split(path.Clean("/" + h.Name))
	at = strings.Trim(at, "/")
	if h.Typeflag == tar.TypeDir || !layout.MayMatter(file) || strings.Contains("/"+at, "/.") ||
		a.isDone(at) && !layout.Marked(file) {
		return nil, nil
	}
	// Marked files of a folder are those of another one, since this one may be complete already.
	if plain, mark := layout.Unmark(file); mark != "" && at != "" {
		if file, at = plain, at+":"+string(mark); a.isDone(at) {
			return nil, nil
		}
	}
	f := a.waiting[at]
	if f == nil {
		f = &folder{files: map[string][]byte{}}
		a.waiting[at] = f
		a.size += overhead + len(at)
	}
	if sparse(h) { // a few bytes may stand for any number
		return nil, fmt.Errorf("%.300q has holes: make the archive without --sparse (-S)", h.Name)
	}
	b, err := readSome(a.tar, h.Size)
	before := f.size()
	a.size -= before
	switch {
	case err != nil:
		return nil, fmt.Errorf("%.300q: %w", h.Name, err)
	case h.Typeflag != tar.TypeReg:
		f.err = fmt.Errorf("%s is a link or no file: make the archive with tar -h", h.Name)
	case strings.Contains(at, "/"):
		f.err = fmt.Errorf("it lies too deep: make the archive of the folders themselves (tar -C DIR -cf FILE .)")
	default:
		f.files[file] = b
	}
	if a.size += f.size(); a.size > a.most {
		return nil, errors.New(
			"too many folders are only half there: make the archive folder by folder (tar -C DIR -cf FILE .)")
	}
	if f.whole {
		a.whole -= before
		f.whole = false
	}
	files, whole := layout.Complete(f.names())
	switch {
	case f.err != nil || !whole || at == "" || strings.HasSuffix(at, markedECDSA):
		return nil, nil
	case files.Chain == chainFile:
		a.leave(at, f)
		return []Pair{a.once(at, f)}, nil
	}
	f.whole = true
	if a.whole += f.size(); a.whole <= a.most/4 {
		return nil, nil
	}
	var ready []string
	for folder, f := range a.waiting {
		if f.whole {
			ready = append(ready, folder)
		}
	}
	slices.Sort(ready)
	pairs := slices.Collect(a.all(ready))
	for _, folder := range ready {
		a.leave(folder, a.waiting[folder])
	}
	a.whole = 0
	return pairs, nil
}

// leave notes that a folder does not wait any more.
func (a *reader) leave(at string, f *folder) {
	delete(a.waiting, at)
	a.size -= f.size() + overhead + len(at)
	a.done[maphash.String(a.seed, at)] = struct{}{}
}

// all yields the certificates of folders that wait. Two of one host get their names, if one is
// ECDSA and the other RSA, as in a directory.
func (a *reader) all(folders []string) iter.Seq[Pair] {
	return func(yield func(Pair) bool) {
		of := map[string][]string{} // the folders that stand for a name, by the folder of that name
		for _, at := range folders {
			if !strings.HasSuffix(at, markedECDSA) {
				name := a.waiting[at].pair(at).Folder
				of[name] = append(of[name], at)
			}
		}
		paired := map[string]bool{}
		for _, at := range folders {
			if paired[at] {
				continue
			}
			if two := of[a.waiting[at].pair(at).Folder]; len(two) == 2 && two[0] == at {
				first, second, ok := both(a.waiting[at].pair(at), a.waiting[two[1]].pair(two[1]))
				if paired[two[1]] = ok; ok {
					if !yield(first) || !yield(second) {
						return
					}
					continue
				}
			}
			if !yield(a.once(at, a.waiting[at])) {
				return
			}
		}
	}
}

// once returns the certificate of a folder. One of a name that another folder has, too, has an Err.
func (a *reader) once(at string, f *folder) Pair {
	if folder, ok := strings.CutSuffix(at, markedECDSA); ok {
		if a.isDone(folder) || a.waiting[folder] != nil {
			return Pair{Folder: folder, Err: errors.New("in an archive, the RSA certificate beside one that is " +
				"marked ecdsa must be marked, too: name its files tls.rsa.crt and tls.rsa.key")}
		}
		at = folder
	}
	p := f.pair(at)
	other := a.stands[p.Folder]
	if other == "" && p.Folder != at && (a.isDone(p.Folder) || a.waiting[p.Folder] != nil) {
		other = p.Folder
	}
	switch {
	case other != "":
		return Pair{Folder: at, Err: again(p.Folder, other)}
	case p.Folder != at:
		a.stands[p.Folder] = at
	}
	return p
}

// size returns about how many bytes the files take.
func (f *folder) size() (n int) {
	for name, b := range f.files {
		n += len(name) + len(b)
	}
	return n
}

func (f *folder) names() []string { return slices.Collect(maps.Keys(f.files)) }

// pair returns the certificate of a folder that was read, or an Err that says what is missing.
func (f *folder) pair(at string) Pair {
	half := Pair{Folder: at, PEM: keysource.PEM{Chain: f.files[chainFile], Key: f.files[keyFile]}, Err: f.err}
	if half.Err != nil {
		return half
	}
	var files layout.Files
	if files, half.Err = layout.Find(f.names()); half.Err != nil {
		return half
	}
	p := keysource.PEM{Chain: f.files[files.Chain]}
	switch {
	case files.Key != "":
		p.Key = f.files[files.Key]
	case !hasKey(p.Chain):
		half.Err = fmt.Errorf("there is no %s", keyFile)
		return half
	}
	return pairOf(at, files, func(file string) bool { return f.files[file] != nil }, p)
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
