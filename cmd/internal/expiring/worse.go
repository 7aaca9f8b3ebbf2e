package expiring

import (
	"github.com/lockstep-tls/lockstep/keysource/catalog"
	"github.com/lockstep-tls/lockstep/keysource/dir"
)

// Warned is a certificate that is served and looks wrong.
type Warned struct {
	Name     string
	Source   string
	Warnings []string
}

// Worse names the certificates that are served and look worse than those that they replaced, or
// wrong in themselves. Files may be nil. Of the store only those are known that no name of the
// directory hides.
func Worse(files *dir.Dir, stored *catalog.Catalog) (out []Warned) {
	if files != nil {
		for _, e := range files.List() {
			if e.Name != "" && len(e.Warnings) > 0 {
				out = append(out, Warned{string(e.Name), Directory, e.Warnings})
			}
		}
	}
	for _, w := range stored.Warned() {
		if files == nil || !files.Has(w.Name) {
			out = append(out, Warned{string(w.Name), Store, w.Warnings})
		}
	}
	return out
}
