package backup

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"filippo.io/age"
)

// ErrLocked means that the backup does not open with the given identities.
var ErrLocked = errors.New("the backup does not open")

// Recipients returns the recipients of a backup, from public keys (age1…, also post-quantum ones)
// or from a passphrase. No error quotes them.
func Recipients(public []string, passphrase string) ([]age.Recipient, error) {
	if (len(public) > 0) == (passphrase != "") {
		return nil, errors.New("a backup is encrypted either to recipients or with a passphrase: give one of them")
	}
	if passphrase != "" {
		r, err := age.NewScryptRecipient(passphrase)
		if err != nil {
			return nil, err
		}
		return []age.Recipient{r}, nil
	}
	var all []age.Recipient
	for i, text := range public {
		if strings.HasPrefix(strings.ToUpper(text), "AGE-SECRET-KEY") {
			return nil, fmt.Errorf(
				"recipient %d is a secret key, and by now others may have seen it: make another, and give its "+
					"public key (age-keygen -y)", i+1)
		}
		rs, err := age.ParseRecipients(strings.NewReader(text))
		if err != nil || len(rs) != 1 {
			return nil, fmt.Errorf("recipient %d is not one of age (age1…; age-keygen makes a pair)", i+1)
		}
		all = append(all, rs...)
	}
	return all, nil
}

// Passphrase reads a passphrase. It is the first line, as it stands, without its end.
func Passphrase(r io.Reader) (string, error) {
	line, err := bufio.NewReader(io.LimitReader(r, 4096)).ReadString('\n')
	if err != nil && err != io.EOF {
		return "", err
	}
	if line = strings.TrimRight(line, "\r\n"); line == "" {
		return "", errors.New("its first line is empty, and should be the passphrase")
	}
	return line, nil
}

// Identities reads secret keys, which open a backup, as age-keygen writes them.
func Identities(r io.Reader) ([]age.Identity, error) {
	ids, err := age.ParseIdentities(r)
	if err != nil {
		// age's words may quote it
		return nil, errors.New("it holds no secret key of age (AGE-SECRET-KEY-…), or a line that is none")
	}
	return ids, nil
}

// Unlock returns the identities that open a backup which was made with a passphrase.
func Unlock(passphrase string) ([]age.Identity, error) {
	id, err := age.NewScryptIdentity(passphrase)
	if err != nil {
		return nil, err
	}
	return []age.Identity{id}, nil
}

// Decrypt returns the inner text. The error wraps [ErrLocked] if no identity fits, else [ErrBad].
// Reading the text may also return either.
func Decrypt(r io.Reader, ids []age.Identity) (io.Reader, error) {
	plain, err := age.Decrypt(r, ids...)
	var none *age.NoIdentityMatchError
	switch {
	case errors.As(err, &none):
		return nil, fmt.Errorf("%w: not with this key or passphrase", ErrLocked)
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrBad, err)
	}
	return whole{plain}, nil
}

// whole marks age's error for a stream that was cut short or changed.
type whole struct{ r io.Reader }

func (w whole) Read(b []byte) (int, error) {
	n, err := w.r.Read(b)
	if err != nil && err != io.EOF {
		err = fmt.Errorf("%w: it was cut short or changed (%w)", ErrBad, err)
	}
	return n, err
}
