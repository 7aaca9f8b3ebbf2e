package main

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/lockstep-tls/lockstep/keysource"
)

// maxKeyFile bounds what is read. It is far above every form of a key, and limits what a wrong path
// such as /dev/zero costs.
const maxKeyFile = 4096

// readKey reads a session ticket key from a file, or from standard input if file is "-". Errors
// name the file and quote nothing of it.
func (a *app) readKey(file string) ([]byte, error) {
	f, name := a.in, "standard input"
	if file != "-" {
		name = file
		var err error
		if f, err = os.Open(file); err != nil {
			return nil, err
		}
		defer f.Close()
		fi, err := f.Stat()
		if err != nil {
			return nil, err
		}
		if mode := fi.Mode(); mode.IsRegular() && mode.Perm()&0o077 != 0 {
			fmt.Fprintf(
				a.err, "warning: others can read the key in %s (mode %04o): chmod 600 it, and take a fresh key if "+
					"it was ever in use\n", name, mode.Perm())
		}
	}
	b, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if len(b) > maxKeyFile {
		return nil, fmt.Errorf("%s: %w: more than %d bytes, must be %d", name, keysource.ErrBadTicketKey, maxKeyFile,
			keysource.TicketKeySize)
	}
	k, err := keysource.ParseTicketKey(decodeKey(b))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return k[:], nil
}

// decodeKey decodes a key that is hex or base64, in one line or several. It returns everything else
// as it is, and also what has the length of a raw key.
func decodeKey(b []byte) []byte {
	if len(b) == keysource.TicketKeySize {
		return b
	}
	text := strings.Join(strings.Fields(string(b)), "")
	if text == "" {
		return b
	}
	if raw, err := hex.DecodeString(text); err == nil {
		return raw
	}
	if raw, err := base64.StdEncoding.Strict().DecodeString(text); err == nil {
		return raw
	}
	return b
}
