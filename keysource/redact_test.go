package keysource_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"encoding/xml"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/keysource/internal/testca"
)

// leaks looks for any 8 bytes in a row of secret in out: raw, hex, base64 at any alignment, Go or
// JSON lists of numbers.
func leaks(out string, secret []byte) string {
	flat := strings.NewReplacer(" ", "", ",", "", "0x", "", "\n", "").Replace(out)
	for i := 0; i+8 <= len(secret); i++ {
		part := secret[i : i+8]
		decimal := strings.NewReplacer(" ", "", "[", "", "]", "").Replace(fmt.Sprint(part))
		for form, s := range map[string]string{
			"raw": string(part), "hex": hex.EncodeToString(part), "HEX": strings.ToUpper(hex.EncodeToString(part)),
			"decimal":    decimal,
			"base64":     base64.RawStdEncoding.EncodeToString(part[:6]),
			"base64 URL": base64.RawURLEncoding.EncodeToString(part[:6]),
		} {
			if strings.Contains(out, s) || strings.Contains(flat, s) {
				return form
			}
		}
	}
	return ""
}

func TestLeaksHasTeeth(t *testing.T) {
	k := keysource.NewTicketKey()
	for form, out := range map[string]string{
		"raw": string(k[:]), "hex": fmt.Sprintf("%x", k[:]), "HEX": fmt.Sprintf("%X", k[:]),
		"decimal": fmt.Sprint(k[:]),
		"Go":      fmt.Sprintf("%#v", k[:]), "base64": base64.StdEncoding.EncodeToString(k[:]),
		"JSON numbers": fmt.Sprint([80]byte(k)),
	} {
		if leaks("x "+out+" y", k[:]) == "" {
			t.Errorf("%s is not seen", form)
		}
	}
}

func TestNothingPrintsAKey(t *testing.T) {
	chain, key := testca.New(t).Issue(t, "shop.example")
	cert, bare, err := keysource.ParseDER(keysource.PEM{Chain: chain, Key: key}, now)
	check(t, err)
	der, _ := pem.Decode(cert.Key)
	tk := keysource.NewTicketKey()
	ring := keysource.Ring{Generation: 7, Keys: []keysource.TicketKey{tk}}
	type wrapped struct {
		P  keysource.PEM
		C  keysource.Certificate
		CP *keysource.Certificate
		D  keysource.DER
		K  keysource.TicketKey
		KP *keysource.TicketKey
		R  keysource.Ring
		RP *keysource.Ring
		L  []keysource.TicketKey
		M  map[string]keysource.Ring
	}
	all := wrapped{cert.PEM, cert, &cert, bare, tk, &tk, ring, &ring, ring.Keys,
		map[string]keysource.Ring{"default": ring}}

	outs := map[string]string{}
	for what, v := range map[string]any{
		"PEM": cert.PEM, "*PEM": &cert.PEM,
		"certificate": cert, "*certificate": &cert, "DER": bare, "*DER": &bare, "ticket key": tk, "*ticket key": &tk,
		"ring": ring, "*ring": &ring,
		"keys": ring.Keys, "struct": all, "*struct": &all, "any": []any{cert, tk, ring},
	} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%#x", "%d", "%o", "%b", "%c",
			"%U"} {
			outs[what+" "+verb] = fmt.Sprintf(verb, v)
		}
		outs[what+" Println"] = fmt.Sprintln(v)
		outs[what+" error"] = fmt.Errorf("about %v", v).Error()
		var text, js bytes.Buffer
		for _, l := range []*slog.Logger{slog.New(slog.NewTextHandler(&text, nil)),
			slog.New(slog.NewJSONHandler(&js, nil))} {
			l.Info("x", "v", v)
			l.With("v", v).WithGroup("g").Info("x", slog.Group("h", "v", v))
		}
		outs[what+" slog text"], outs[what+" slog JSON"] = text.String(), js.String()
		b, err := json.Marshal(v)
		if err == nil {
			t.Errorf("%s: marshals as %.60s, which loses the key or shows it", what, b)
		}
		outs[what+" JSON"] = string(b) + fmt.Sprint(err)
		x, err := xml.Marshal(v)
		outs[what+" XML"] = string(x) + fmt.Sprint(err)
	}
	for what, out := range outs {
		for name, secret := range map[string][]byte{"private key": der.Bytes,
			"private key PEM": cert.Key[30 : len(cert.Key)-30], "ticket key": tk[:]} {
			if form := leaks(out, secret); form != "" {
				t.Errorf("%s prints the %s (%s): %.200s", what, name, form, out)
			}
		}
	}
	if s := fmt.Sprint(ring); !strings.Contains(s, ring.Version()) || !strings.Contains(s, tk.ID()) {
		t.Errorf("a ring prints as %q, which helps nobody", s)
	}
}
