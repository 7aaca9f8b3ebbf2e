package settings

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
)

// Digests returns a digest of each setting that stands in a configuration. These are the ones that
// unset, the configuration of nobody, lacks or has with another value. So another version of the
// program finds the same ones, although it knows further settings. Without the key nobody can try
// which password belongs to a digest. The empty setting has a digest of the key alone.
func (f Flat) Digests(key []byte, unset Flat) map[string]string {
	all := map[string]string{"": digest(key, "", "")}
	for name, value := range f {
		if usual, ok := unset[name]; !ok || usual.raw != value.raw {
			all[name] = digest(key, name, value.raw)
		}
	}
	return all
}

func digest(key []byte, name, value string) string {
	h := hmac.New(sha256.New, key)
	h.Write([]byte("lockstep setting\x00" + name + "\x00" + value))
	return hex.EncodeToString(h.Sum(nil)[:16])
}
