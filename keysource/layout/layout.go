// Package layout knows how programs lay out certificates in folders and files. It looks at names
// only, and reads nothing.
//
// These are known, the first one that is complete wins:
//
//   - tls.crt and tls.key, as Kubernetes mounts a secret. Its ca.crt is not needed.
//   - fullchain.pem and privkey.pem, as certbot and dehydrated write them.
//   - fullchain.cer and NAME.key, as acme.sh does. Its folder may end with _ecc.
//   - One chain and one key of any name that ends with .crt, .cer, .pem and .key, as Caddy does.
//   - One file with both, as HAProxy takes it.
//   - In the directory itself, NAME.crt and NAME.key as lego writes them, or NAME.pem with both.
package layout

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/lockstep-tls/lockstep/keysource"
)

// The files that this project asks for.
const (
	ChainFile = "tls.crt"
	KeyFile   = "tls.key"
)

// Files are the names of the files of one certificate. Key is empty if the chain's file should hold
// the private key, too.
type Files struct{ Chain, Key string }

var (
	// chains and keys are names that say what they are, best first.
	chains = []string{ChainFile, "fullchain.pem", "fullchain.cer", "fullchain.crt"}
	keys   = []string{KeyFile, "privkey.pem", "key.pem"}
	// aside are names of what stands beside a chain. Where the first two stand, a chain of another
	// name may lack its intermediates.
	aside = []string{"chain.pem", "ca.cer", "ca.crt", "ca.pem", "dhparam.pem", "dhparams.pem"}
)

// MayMatter reports whether a file may belong to a certificate, by its name.
func MayMatter(file string) bool {
	return !strings.HasPrefix(file, ".") && (isChain(file) || isKey(file) || isBundle(file))
}

func isChain(file string) bool {
	switch path.Ext(file) {
	case ".crt", ".cer", ".pem":
		return !isKey(file) && !slices.Contains(aside, file) && !isIssuer(file)
	}
	return false
}

func isKey(file string) bool {
	return path.Ext(file) == ".key" || slices.Contains(keys, file) || strings.HasSuffix(file, "-key.pem")
}

// isBundle reports whether a file has intermediates, as CAs send them beside the leaf.
func isBundle(file string) bool {
	switch path.Ext(file) {
	case ".ca-bundle", ".p7b", ".p7c":
		return true
	}
	return false
}

// isIssuer reports whether lego wrote the file beside NAME.crt.
func isIssuer(file string) bool { return strings.HasSuffix(file, ".issuer.crt") }

// Complete returns the files of a folder that needs no further file.
func Complete(files []string) (Files, bool) {
	for i, chain := range chains[:2] {
		if slices.Contains(files, chain) && slices.Contains(files, keys[i]) {
			return Files{chain, keys[i]}, true
		}
	}
	return Files{}, false
}

// Find returns the files of the certificate in a folder, out of the names of its files. The error
// says what is missing.
func Find(files []string) (Files, error) {
	if f, ok := Complete(files); ok {
		return f, nil
	}
	chain, why := one(files, chains, isChain)
	switch {
	case chain == "" && why != "":
		return Files{}, fmt.Errorf("there is no %s, and several files may stand for it: %s", ChainFile, why)
	case chain == "":
		return Files{}, fmt.Errorf("there is no %s", ChainFile)
	case !slices.Contains(chains, chain) && (slices.Contains(files, aside[0]) || slices.Contains(files, aside[1])):
		return Files{}, fmt.Errorf("there is no %s, and no fullchain.pem: %s may lack its intermediates", ChainFile,
			chain)
	}
	if i := slices.IndexFunc(files, isBundle); i >= 0 && !slices.Contains(chains, chain) {
		return Files{}, fmt.Errorf("there is no %s, and no fullchain.pem: %s %s", ChainFile, chain,
			apart(chain, files[i]))
	}
	key, why := one(files, keys, isKey)
	if key == "" && why != "" {
		return Files{}, fmt.Errorf("there is no %s, and several files may stand for it: %s", KeyFile, why)
	}
	return Files{chain, key}, nil
}

// one returns the first of best that is in files, or else the only file that is of the kind. If
// there are several, they are named.
func one(files, best []string, of func(string) bool) (file, several string) {
	for _, b := range best {
		if slices.Contains(files, b) {
			return b, ""
		}
	}
	var some []string
	for _, f := range files {
		if of(f) {
			some = append(some, f)
		}
	}
	slices.Sort(some)
	switch len(some) {
	case 0:
		return "", ""
	case 1:
		return some[0], ""
	}
	return "", strings.Join(some[:min(len(some), 5)], ", ")
}

// apart says what is wrong with a chain whose intermediates are in another file.
func apart(chain, bundle string) string {
	return fmt.Sprintf("may lack its intermediates, which %s may have: put both into one file, %s first", bundle, chain)
}

// Host returns the name whose certificate a folder has. has reports whether it has a file.
// Certbot names a second certificate of a name NAME-0001. acme.sh adds _ecc for ECDSA, and writes
// wildcards with a star. The error wraps [keysource.ErrBadName], or says how the folder is to be
// named.
func Host(folder string, has func(file string) bool) (keysource.Name, error) {
	name := strings.TrimSuffix(folder, "_ecc")
	if base, ok := numbered(name); ok && has("fullchain.pem") {
		name = base
	}
	if strings.HasPrefix(name, "*") && !has("fullchain.cer") {
		return "", errors.New("a wildcard's folder is written _.example.com")
	}
	for _, prefix := range []string{"_.", "wildcard_."} { // Caddy's
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			name = "*." + rest
		}
	}
	return keysource.ServerName(name)
}

// numbered cuts -0001 from a host name, as certbot adds it.
func numbered(name string) (base string, ok bool) {
	i := len(name) - len("-0001")
	if i <= 0 || name[i] != '-' || strings.Trim(name[i+1:], "0123456789") != "" {
		return "", false
	}
	return name[:i], strings.Contains(name[:i], ".")
}

// Folder returns the folder of a name.
func Folder(n keysource.Name) string {
	if rest, ok := strings.CutPrefix(string(n), "*."); ok {
		return "_." + rest
	}
	return string(n)
}

// Flat is a certificate whose files stand in the directory itself.
type Flat struct {
	Name keysource.Name
	Files
}

// FindFlat returns the certificates whose files stand in a directory itself, by the names of its
// files, and what stands there and cannot be used. A file is a host's if its name has a dot besides
// that of its ending.
func FindFlat(files []string) (all []Flat, bad map[string]string) {
	bad = map[string]string{}
	for _, chain := range chains {
		if slices.Contains(files, chain) && slices.ContainsFunc(files, isKey) {
			bad[chain] = "stands in the directory itself: move it into a folder of the server name, or give the " +
				"directory above"
		}
	}
	if len(bad) > 0 { // what is beside it belongs to it
		return nil, bad
	}
	there := map[string]bool{}
	for _, f := range files {
		there[f] = true
	}
	found := map[keysource.Name]bool{}
	for _, ending := range []string{".crt", ".cer", ".pem"} {
		for _, f := range files {
			stem, ok := strings.CutSuffix(f, ending)
			if !ok || !isChain(f) || !strings.Contains(stem, ".") {
				continue
			}
			n, err := Host(stem, func(string) bool { return false })
			if err != nil {
				bad[f] = err.Error()
				continue
			}
			if found[n] {
				continue
			}
			found[n] = true
			if b := slices.IndexFunc(files, func(other string) bool {
				return isBundle(other) && strings.TrimSuffix(other, path.Ext(other)) == stem
			}); b >= 0 {
				bad[f] = apart(f, files[b])
				continue
			}
			key := ""
			for _, k := range []string{stem + ".key", f + ".key", stem + "-key.pem"} {
				if there[k] {
					key = k
					break
				}
			}
			all = append(all, Flat{n, Files{f, key}})
		}
	}
	slices.SortFunc(all, func(x, y Flat) int { return strings.Compare(x.Chain, y.Chain) })
	return all, bad
}

// Program reports whether a folder is of the program that wrote the directory. files are what
// stands beside the folder.
func Program(folder string, files []string) bool {
	// acme.sh has its scripts and its accounts beside the certificates.
	return slices.Contains([]string{"ca", "deploy", "dnsapi", "notify"}, folder) &&
		slices.Contains(files, "account.conf")
}

// Deeper says which directory to give instead of the one that has the folder at path. files are
// what stands in that folder, and below returns what stands in a folder of it. The answer is empty
// if there are no certificates.
func Deeper(at string, files []string, below func(folder string) []string) string {
	for _, f := range files {
		if _, err := Find(below(f)); err == nil {
			return fmt.Sprintf("; %s has folders of certificates: give that directory", at)
		}
	}
	if all, _ := FindFlat(files); len(all) > 0 {
		return fmt.Sprintf("; %s has files of certificates, such as %s: give that directory", at, all[0].Chain)
	}
	return ""
}
