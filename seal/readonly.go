package seal

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// credential is a systemd credential (systemd.exec(5), LoadCredential= and
// LoadCredentialEncrypted=). The service manager puts it into a file that only this service can
// read. Its mode is not checked: systemd grants access by an ACL, which looks like a group's
// right.
type credential struct{ name, path string }

func newCredential(name string) (Keys, error) {
	if name == "" || name != filepath.Base(name) || name == "." || name == ".." {
		return nil, fmt.Errorf("seal: credential:%s: a credential's name is one file name", name)
	}
	dir := os.Getenv("CREDENTIALS_DIRECTORY")
	if dir == "" {
		return nil, fmt.Errorf("seal: credential:%s: $CREDENTIALS_DIRECTORY is not set: the unit needs "+
			"LoadCredential=%[1]s:PATH or LoadCredentialEncrypted=", name)
	}
	return credential{name, filepath.Join(dir, name)}, nil
}

func (c credential) String() string { return "credential " + c.name }

func (c credential) Load(context.Context) ([]byte, error) {
	f, err := os.Open(c.path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxFile))
}

func (c credential) Save(context.Context, []byte, []byte) error {
	return fmt.Errorf("%w: a credential belongs to the service manager; %s", ErrReadOnly, byHand)
}

// variable is an environment variable that has the keyset in base64. It is removed from the
// environment when it is read, so that no child and no dump of variables has it. /proc/PID/environ
// still shows what the process was started with, to this user and root.
type variable struct {
	name   string
	keyset []byte
}

func newVariable(name string) (Keys, error) {
	if name == "" || strings.ContainsAny(name, "=\x00") {
		return nil, fmt.Errorf("seal: env:%s: no variable is named", name)
	}
	text, ok := os.LookupEnv(name)
	if !ok || text == "" {
		return nil, fmt.Errorf("seal: env:%s: the variable is not set: put the keyset there (base64 -w0 FILE)", name)
	}
	if err := os.Unsetenv(name); err != nil {
		return nil, fmt.Errorf("seal: env:%s: %w", name, err)
	}
	b, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(text), ""))
	if err != nil {
		return nil, fmt.Errorf("seal: env:%s: it is not base64 (base64 -w0 FILE)", name)
	}
	return variable{name, b}, nil
}

func (v variable) String() string { return "environment variable " + v.name }

func (v variable) Load(context.Context) ([]byte, error) { return v.keyset, nil }

func (v variable) Save(context.Context, []byte, []byte) error {
	return fmt.Errorf("%w: a process cannot change the environment that it is started with; %s", ErrReadOnly, byHand)
}
