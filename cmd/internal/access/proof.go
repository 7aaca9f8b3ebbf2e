package access

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/lockstep-tls/lockstep/store"
)

// ProofHeader is the header of a request with the proof of a replica.
const ProofHeader = "Lockstep-Replica"

const (
	keySize = 32
	// proofFor is how far the time of a proof may be from the clock of the replica that is asked.
	proofFor = 5 * time.Minute
	// maxUsed bounds the proofs that are remembered. A fleet makes some tens a second at most.
	maxUsed = 1 << 16
)

// ErrProof says that a request does not come from a replica of this fleet. The text says why.
var ErrProof = errors.New("the request does not prove that a replica of this fleet sent it")

var peerKey = store.Peers.Key("key")

// lookForKey reads the key. If the store has none, or one that does not open, it stores the one in
// memory, or a new one. Whoever is first wins.
func (a *Access) lookForKey(ctx context.Context) error {
	for {
		val, rev, err := a.cfg.Store.Get(ctx, peerKey)
		if err == nil && len(val) == keySize {
			a.setKey(val)
			return nil
		}
		if err != nil && !errors.Is(err, store.ErrNotExist) && !errors.Is(err, store.ErrSealed) {
			return err
		}
		if why := a.foreign(ctx, err); why != nil {
			return why
		}
		if rev != 0 {
			a.cfg.Log.Error("the replicas' key in the store cannot be read, and is replaced", "key", peerKey)
		}
		a.mu.Lock()
		key := a.key
		a.mu.Unlock()
		if key == nil {
			key = make([]byte, keySize)
			rand.Read(key)
		}
		if _, err = a.cfg.Store.Swap(ctx, peerKey, rev, key); !errors.Is(err, store.ErrConflict) {
			if err == nil {
				a.setKey(key)
			}
			return err
		}
	}
}

func (a *Access) setKey(key []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.key = key
}

// proof is over all that matters of a request.
func proof(key []byte, method, uri, at, nonce, from, to string) []byte {
	m := hmac.New(sha256.New, key)
	// no field has a newline: the names are those of replicas, and HTTP takes none in the others
	m.Write([]byte(strings.Join([]string{"lockstep replica v1", method, uri, at, nonce, from, to}, "\n")))
	return m.Sum(nil)
}

// Prove returns the value of [ProofHeader] for a request to the replica to. Uri is the path with
// the query. The value is empty as long as there is no key.
func (a *Access) Prove(method, uri, to string) string {
	a.mu.Lock()
	key := a.key
	a.mu.Unlock()
	if key == nil {
		return ""
	}
	at, nonce := strconv.FormatInt(time.Now().Unix(), 10), rand.Text()
	return strings.Join([]string{
		a.cfg.Replica, at, nonce, hex.EncodeToString(proof(key, method, uri, at, nonce, a.cfg.Replica, to)),
	}, " ")
}

// Proved returns the replica that sent a request with this value of [ProofHeader]. The error wraps
// [ErrProof]. A value is taken once.
func (a *Access) Proved(method, uri, header string) (from string, err error) {
	refuse := func(why string) (string, error) { return "", fmt.Errorf("%w: %s", ErrProof, why) }
	part := strings.Split(header, " ")
	if len(part) != 4 || len(header) > 512 {
		return refuse("it is not of a form that this version knows")
	}
	from, at := part[0], part[1]
	seconds, err := strconv.ParseInt(at, 10, 64)
	mac, err2 := hex.DecodeString(part[3])
	if err != nil || err2 != nil {
		return refuse("it is not of a form that this version knows")
	}
	now := time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	switch off := now.Sub(time.Unix(seconds, 0)); {
	case a.key == nil:
		return refuse("this replica has not read the key of the fleet yet")
	case !hmac.Equal(mac, proof(a.key, method, uri, at, part[2], from, a.cfg.Replica)):
		return refuse("it was made with another key, for another request, or for another replica than this one, " +
			a.cfg.Replica)
	case off.Abs() > proofFor:
		return refuse(fmt.Sprintf("it was made %s ago by the clock of this machine: set the clocks",
			off.Round(time.Second)))
	}
	if _, again := a.used[string(mac)]; again {
		return refuse("it was used before")
	}
	if len(a.used) >= maxUsed {
		return refuse("there are too many requests of replicas: ask again in a minute")
	}
	a.used[string(mac)] = time.Unix(seconds, 0).Add(proofFor + time.Second)
	return from, nil
}
