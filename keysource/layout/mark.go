package layout

import (
	"path"
	"slices"
	"strings"
)

// Mark says in the name of a file or folder of which kind a key is, where a host has two
// certificates. It is empty if the name does not say it.
type Mark string

const (
	RSA   Mark = "rsa"
	ECDSA Mark = "ecdsa"
)

// Unmark returns the mark of a file, and its name without it. tls.rsa.crt is marked, and so is
// shop.example.pem.rsa, as HAProxy writes it.
func Unmark(file string) (plain string, m Mark) {
	ext := path.Ext(file)
	switch m := Mark(strings.TrimPrefix(ext, ".")); m {
	case RSA, ECDSA:
		if plain = strings.TrimSuffix(file, ext); path.Ext(plain) == ".pem" {
			return plain, m
		}
	}
	switch stem := strings.TrimSuffix(file, ext); ext {
	case ".crt", ".cer", ".pem", ".key":
		for _, m := range []Mark{RSA, ECDSA} {
			if base, ok := strings.CutSuffix(stem, "."+string(m)); ok && base != "" {
				return base + ext, m
			}
		}
	}
	return file, ""
}

// Marked reports whether the name of a file says of which kind its key is.
func Marked(file string) bool {
	_, m := Unmark(file)
	return m != ""
}

// Second is one of the two certificates that a folder has.
type Second struct {
	Mark
	Files
}

// FindBoth returns the files of the two certificates in a folder, out of the names of its files. At
// least one of them has marked files. It returns nothing if the folder has one certificate, or more
// than two. Then [Find] says more.
func FindBoth(files []string) []Second {
	plain := map[Mark][]string{}
	back := map[Mark]map[string]string{}
	for _, f := range files {
		p, m := Unmark(f)
		if strings.HasPrefix(f, ".") || !isChain(p) && !isKey(p) && !isAside(p) && !isBundle(p) {
			continue
		}
		if back[m] == nil {
			back[m] = map[string]string{}
		}
		plain[m] = append(plain[m], p)
		back[m][p] = f
	}
	var out []Second
	for _, m := range []Mark{"", ECDSA, RSA} {
		matters := false
		for _, p := range plain[m] {
			matters = matters || isChain(p) || isKey(p)
		}
		if !matters {
			continue
		}
		found, err := Find(plain[m])
		if err != nil {
			// The chain of a key may only be missing for a while.
			key, _ := one(plain[m], keys, isKey)
			if key == "" || found.Chain != "" || m == "" && !slices.Contains(keys, key) {
				return nil
			}
			chain := strings.TrimSuffix(key, path.Ext(key)) + ".crt"
			if key == keys[1] {
				chain = chains[1]
			}
			found = Files{marked(chain, m), back[m][key]}
		} else {
			found.Chain = back[m][found.Chain]
			if found.Key != "" {
				found.Key = back[m][found.Key]
			} else if m != "" && found.Chain == marked(ChainFile, m) {
				found.Key = marked(KeyFile, m) // which is missing
			}
		}
		out = append(out, Second{m, found})
	}
	if len(out) != 2 {
		return nil
	}
	return out
}

// marked puts a mark, if there is one, into the name of a file.
func marked(file string, m Mark) string {
	if m == "" {
		return file
	}
	ext := path.Ext(file)
	return strings.TrimSuffix(file, ext) + "." + string(m) + ext
}
