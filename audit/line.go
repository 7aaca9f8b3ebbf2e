package audit

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Line is an entry in its place.
type Line struct {
	Number uint64 `json:"n"` // from 1
	Chain  string `json:"chain"`
	Entry
	// Of is how many lines, next to each other, the change has that this one belongs to. 0 is one.
	Of      int    `json:"of,omitempty"`
	Replica string `json:"replica"` // which wrote it
	Prev    string `json:"prev"`    // MAC of the line before; empty for the first
	MAC     string `json:"-"`       // stands at the end of the JSON, over all before it
}

// Head is the head of the chain that ends with l.
func (l Line) Head() Head { return Head{Chain: l.Chain, Number: l.Number, MAC: l.MAC} }

// What a line may hold. Names are bounded by those who check them; this is for the others.
const (
	maxLine  = 16 << 10 // bytes of JSON, with the newline
	maxWords = 512      // bytes of one text
	maxNames = 20       // of a list
	macLen   = 43       // base64url of 32 bytes
)

const (
	lineStart = `{"n":`
	macStart  = `,"mac":"`
	lineEnd   = `"}`
)

var encoding = base64.RawURLEncoding.Strict()

func sum(key, body []byte) string {
	m := hmac.New(sha256.New, key)
	m.Write(body)
	return encoding.EncodeToString(m.Sum(nil))
}

func isMAC(s string) bool {
	b, err := encoding.DecodeString(s)
	return err == nil && len(b) == sha256.Size && len(s) == macLen
}

// encode writes l as one line of JSON, and sets its MAC.
func (l *Line) encode(key []byte) ([]byte, error) {
	l.clip()
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false) // it would make six bytes of one
	if err := e.Encode(l); err != nil {
		return nil, err
	}
	body := bytes.TrimSuffix(text.Bytes(), []byte("}\n")) // the closing brace comes after the MAC
	l.MAC = sum(key, body)
	b := append(append(append(body, macStart...), l.MAC...), lineEnd+"\n"...)
	if len(b) > maxLine {
		return nil, fmt.Errorf("audit: a line of %d bytes, at most %d", len(b), maxLine)
	}
	return b, nil
}

func (l *Line) clip() {
	for _, s := range []*string{&l.Actor, &l.What, &l.Scope, &l.Name, &l.Key, &l.KeyID, &l.Why, &l.After} {
		*s = clip(*s, maxWords)
	}
	for _, list := range []*[]string{&l.Burnt, &l.WaitedFor, &l.LeftBehind} {
		var out []string
		for i, s := range *list {
			if i == maxNames {
				out = append(out, fmt.Sprintf("and %d more", len(*list)-i))
				break
			}
			out = append(out, clip(s, maxWords/8))
		}
		*list = out
	}
}

// clip cuts s to n bytes, visibly. A character that JSON would write as six bytes, or that a
// terminal might obey, becomes U+FFFD. So a line always fits.
func clip(s string, n int) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return utf8.RuneError
		}
		return r
	}, s)
	if len(s) <= n {
		return s
	}
	cut := n - len("…")
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}

// errChanged says that these bytes are no line that was written with the key.
var errChanged = errors.New("is not as it was written")

// decode reads a line without its newline. It returns errChanged unless the MAC is right. Bytes
// that are not ours are not even parsed.
func decode(key, b []byte) (l Line, err error) {
	body, mac, ok := cutMAC(b)
	if !ok || !hmac.Equal([]byte(sum(key, body)), mac) {
		return l, errChanged
	}
	if err := json.Unmarshal(append(bytes.Clone(body), '}'), &l); err != nil {
		return l, errChanged
	}
	l.MAC = string(mac)
	return l, nil
}

func cutMAC(b []byte) (body, mac []byte, ok bool) {
	const tail = len(macStart) + macLen + len(lineEnd)
	if len(b) > maxLine || len(b) < len(lineStart)+tail ||
		!bytes.HasPrefix(b, []byte(lineStart)) || !bytes.HasSuffix(b, []byte(lineEnd)) {
		return nil, nil, false
	}
	body = b[:len(b)-tail]
	mac, ok = bytes.CutPrefix(b[len(body):len(b)-len(lineEnd)], []byte(macStart))
	return body, mac, ok
}

// batch is what goes to a sink in one go.
type batch struct {
	*keys
	entries []Entry
	of      []int // see Line.Of
}

// put puts e before all others.
func (b batch) put(e Entry) batch {
	b.entries = append([]Entry{e}, b.entries...)
	b.of = append([]int{0}, b.of...)
	return b
}

// lines makes the lines that follow last.
func (b batch) lines(last Head, replica string) (out []byte, heads []Head, err error) {
	for i, e := range b.entries {
		l := Line{Number: last.Number + 1, Chain: last.Chain, Entry: e, Of: b.of[i], Replica: replica, Prev: last.MAC}
		text, err := l.encode(b.mac)
		if err != nil {
			return nil, nil, err
		}
		out = append(out, text...)
		last = l.Head()
		heads = append(heads, last)
	}
	return out, heads, nil
}
