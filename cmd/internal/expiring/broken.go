package expiring

import (
	"fmt"
	"strings"

	"github.com/lockstep-tls/lockstep/keysource/catalog"
	"github.com/lockstep-tls/lockstep/keysource/dir"
)

// Broken names the certificates of directory and store that cannot be used as they are. One that
// has merely expired is not among them: [View] counts it. One of the directory that has no name is
// named by its folder. Of the store only those are known that a read has met, 100 at most. Files
// may be nil.
func Broken(files *dir.Dir, stored *catalog.Catalog) (names []string) {
	if files != nil {
		for _, e := range files.List() {
			switch {
			case e.Problem == "" || e.Expired:
			case e.Name == "":
				names = append(names, e.Folder)
			default:
				names = append(names, string(e.Name))
			}
		}
	}
	for _, e := range stored.BadEntries() {
		if !e.Expired {
			names = append(names, string(e.Name))
		}
	}
	return names
}

// Named lists the first three names, and says how many more there are.
func Named(names []string) string {
	const most = 3
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}
