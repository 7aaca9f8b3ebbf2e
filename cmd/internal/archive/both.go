package archive

import (
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"slices"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/keysource/layout"
)

// both gives two certificates of one host their names, if one is ECDSA and the other RSA. The RSA
// one is the second. ok is false if they are no such two.
func both(a, b Pair) (first, second Pair, ok bool) {
	n, err := a.Name()
	if a.Err != nil || b.Err != nil || err != nil || n.IsSecond() {
		return a, b, false
	}
	x, y := keysource.LeafKind(a.Chain), keysource.LeafKind(b.Chain)
	switch {
	case x == x509.RSA && y == x509.ECDSA:
		a, b = b, a
	case x != x509.ECDSA || y != x509.RSA:
		return a, b, false
	}
	a.Folder, b.Folder = layout.Folder(n), layout.Folder(n.Second())
	return a, b, true
}

// readBoth reads the two certificates of a folder with marked files. It returns nothing if the
// folder has one.
func readBoth(folder string) []Pair {
	names, err := readNames(folder)
	if err != nil || !slices.ContainsFunc(names, layout.Marked) {
		return nil
	}
	var all []Pair
	for _, one := range layout.FindBoth(names) {
		p := Pair{Folder: filepath.Base(folder)}
		if p.Chain, p.Err = readFile(filepath.Join(folder, one.Chain)); p.Err == nil {
			if p.Key = p.Chain; one.Key != "" {
				p.Key, p.Err = readFile(filepath.Join(folder, one.Key))
			}
		}
		all = append(all, p)
	}
	if len(all) != 2 {
		return nil
	}
	first, second, ok := both(all[0], all[1])
	switch {
	case ok:
	case first.Err != nil && second.Err == nil: // it may be the second one
		second.Err = errors.New("its other certificate cannot be read: mend or remove that one first")
	case second.Err == nil:
		second.Err = again(second.Folder, first.Folder)
	}
	return []Pair{first, second}
}

// partners finds folders that may have the second certificate of a host which has another folder,
// too: those of acme.sh and certbot. It returns them by that folder. That is the one of the host's
// name, or else the first of two.
func partners(root string, names []string) map[string]string {
	out := map[string]string{}
	first := map[string]string{} // by the folder of a name
	for _, name := range names {
		n, err := layout.Host(name, func(file string) bool {
			_, err := os.Stat(filepath.Join(root, name, file))
			return err == nil
		})
		if err != nil || layout.Folder(n) == name {
			continue
		}
		at := layout.Folder(n)
		if _, usual := slices.BinarySearch(names, at); !usual {
			if at = first[at]; at == "" {
				first[layout.Folder(n)] = name
				continue
			}
		}
		out[at] = name
	}
	return out
}
