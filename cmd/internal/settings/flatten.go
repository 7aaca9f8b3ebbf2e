package settings

import (
	"fmt"
	"net/url"
	"reflect"
	"strings"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/strictyaml"
)

// Flatten returns the settings of a configuration by key, as texts for people. Keys are written as
// in [strictyaml.Lines], and a list of values is one text. Fields without a YAML key are left out.
// Passwords in URLs are left out, too.
func Flatten(c any) map[string]string {
	all := map[string]string{}
	flatten(all, reflect.ValueOf(c), "")
	return all
}

func flatten(all map[string]string, v reflect.Value, key string) {
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
		var items []string
		for i := range v.Len() {
			items = append(items, text(v.Index(i)))
		}
		all[key] = strings.Join(items, ", ")
	default:
		all[key] = text(v)
	}
}

func text(v reflect.Value) string {
	if d, ok := v.Interface().(time.Duration); ok {
		return Duration(d)
	}
	s := fmt.Sprint(v.Interface())
	if u, err := url.Parse(s); err == nil && u.User != nil {
		return u.Redacted()
	}
	if strings.Contains(s, "@") && strings.Contains(s, "://") {
		return "a URL that cannot be read"
	}
	return s
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
