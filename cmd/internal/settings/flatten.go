package settings

import (
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/strictyaml"
)

// Flat are the settings of a configuration by key. Keys are written as in [strictyaml.Lines], and a
// list of values is one setting.
type Flat map[string]Value

// Value is what a setting has. As a text it is for people, without passwords. What it really is
// leaves it only as a digest; see [Flat.Digests].
type Value struct{ raw, text string }

// String returns the text for people.
func (v Value) String() string { return v.text }

// Texts returns the settings as texts for people.
func (f Flat) Texts() map[string]string {
	all := make(map[string]string, len(f))
	for key, value := range f {
		all[key] = value.text
	}
	return all
}

// Put adds the settings of another configuration below a key.
func (f Flat) Put(key string, under Flat) {
	for k, value := range under {
		f[strictyaml.Join(key, k)] = value
	}
}

// Flatten returns the settings of a configuration. Fields without a YAML key are left out.
func Flatten(c any) Flat {
	all := Flat{}
	flatten(all, reflect.ValueOf(c), "")
	return all
}

func flatten(all Flat, v reflect.Value, key string) {
	for v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return
		}
		v = v.Elem()
	}
	switch {
	case v.Kind() == reflect.Struct:
		t := v.Type()
		for i := range t.NumField() {
			name, opts, _ := strings.Cut(t.Field(i).Tag.Get("yaml"), ",")
			switch {
			case strings.Contains(opts, "inline"):
				flatten(all, v.Field(i), key)
			case name != "" && name != "-":
				flatten(all, v.Field(i), strictyaml.Join(key, name))
			}
		}
	case v.Kind() == reflect.Map:
		for _, k := range v.MapKeys() {
			flatten(all, v.MapIndex(k), strictyaml.Join(key, k.String()))
		}
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Struct:
		for i := range v.Len() {
			flatten(all, v.Index(i), fmt.Sprintf("%s[%d]", key, i))
		}
	case v.Kind() == reflect.Slice:
		var raw, texts []string
		for i := range v.Len() {
			one := valueOf(v.Index(i))
			raw, texts = append(raw, one.raw), append(texts, one.text)
		}
		all[key] = Value{strings.Join(raw, ", "), strings.Join(texts, ", ")}
	default:
		all[key] = valueOf(v)
	}
}

func valueOf(v reflect.Value) Value {
	if d, ok := v.Interface().(time.Duration); ok {
		return Value{Duration(d), Duration(d)}
	}
	raw := fmt.Sprint(v.Interface())
	return Value{raw, Redact(raw)}
}

// Duration writes d without the zeros at its end: 1h and not 1h0m0s.
func Duration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
