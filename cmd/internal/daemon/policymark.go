package daemon

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// policyMark is the file of the data directory with the digest of the last policy that counted and stands in the audit log, or noPolicy. So a restart with the same
// policy needs no log. It is written after the line, and before the policy counts.
const (
	policyMark = "policy.mark"
	noPolicy   = "none"
)

// lastPolicy is the digest in the file, "" for none; ok is false where there is no file, or one that cannot be read.
func (d *dataDir) lastPolicy() (digest string, ok bool) {
	b, err := os.ReadFile(filepath.Join(d.path, policyMark))
	digest = strings.TrimSpace(string(b))
	if err != nil || digest == "" {
		return "", false
	}
	if digest == noPolicy {
		digest = ""
	}
	return digest, true
}

func (d *dataDir) rememberPolicy(digest string) error {
	if last, ok := d.lastPolicy(); ok && last == digest {
		return nil
	}
	word := digest
	if word == "" {
		word = noPolicy
	}
	if err := writeFile(filepath.Join(d.path, policyMark), []byte(word+"\n")); err != nil {
		return fmt.Errorf("which policy counts cannot be written to the data directory: %w", err)
	}
	return nil
}
