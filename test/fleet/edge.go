package fleet

import (
	"fmt"
	"os"
	"path/filepath"
)

// Edge starts the lockstep-edge in the folder bin with a configuration (edge.yaml) whose admin
// listener is at admin. It is ready when its /readyz is.
func (f *Fleet) Edge(bin, name string, config []byte, admin string) (*Process, error) {
	file := filepath.Join(f.dir, name+".yaml")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		return nil, fmt.Errorf("fleet: configuration of %s: %w", name, err)
	}
	return f.Start(Command{
		Name: name, Path: filepath.Join(bin, "lockstep-edge"),
		Args: []string{"--config", file}, Ready: "http://" + admin + "/readyz",
	})
}
