package logs

import (
	"encoding"
	"encoding/json"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"sync"
	"time"
)

// readable returns v with a text in the place of each duration.
func readable(v slog.Value) slog.Value {
	switch v.Kind() {
	case slog.KindDuration:
		return slog.StringValue(v.Duration().String())
	case slog.KindAny:
		if r := reflect.ValueOf(v.Any()); r.IsValid() && holdsDuration(r.Type()) {
			return slog.AnyValue(texts(r))
		}
	}
	return v
}

var (
	duration = reflect.TypeFor[time.Duration]()
	// ownWords are the interfaces of types that say themselves how they are written.
	ownWords = []reflect.Type{
		reflect.TypeFor[error](), reflect.TypeFor[fmt.Stringer](), reflect.TypeFor[json.Marshaler](),
		reflect.TypeFor[encoding.TextMarshaler](),
	}
	known sync.Map // known holds the answers of holdsDuration, by type.
)

// holdsDuration reports whether a value of type t may have a duration in it that a handler writes.
func holdsDuration(t reflect.Type) bool {
	if has, ok := known.Load(t); ok {
		return has.(bool)
	}
	known.Store(t, false) // of a type within itself
	has := looksInside(t)
	known.Store(t, has)
	return has
}

func looksInside(t reflect.Type) bool {
	if t == duration {
		return true
	}
	for _, own := range ownWords {
		if t.Implements(own) && t.Kind() != reflect.Pointer {
			return false
		}
	}
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
		return holdsDuration(t.Elem())
	case reflect.Struct:
		for i := range t.NumField() {
			if f := t.Field(i); f.IsExported() && holdsDuration(f.Type) {
				return true
			}
		}
	}
	return false
}

// texts returns v as maps and lists with texts for durations, by the names that JSON has.
func texts(v reflect.Value) any {
	t := v.Type()
	if t == duration {
		return time.Duration(v.Int()).String()
	}
	if !holdsDuration(t) {
		return v.Interface()
	}
	switch t.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return nil
		}
		return texts(v.Elem())
	case reflect.Slice, reflect.Array:
		all := make([]any, v.Len())
		for i := range all {
			all[i] = texts(v.Index(i))
		}
		return all
	case reflect.Map:
		all := map[string]any{}
		for _, k := range v.MapKeys() {
			all[fmt.Sprint(k.Interface())] = texts(v.MapIndex(k))
		}
		return all
	}
	all := map[string]any{}
	for i := range t.NumField() {
		f := t.Field(i)
		name, opts, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case !f.IsExported() || name == "-":
			continue
		case strings.Contains(opts, "omit") && v.Field(i).IsZero():
			continue
		case name == "":
			name = f.Name
		}
		all[name] = texts(v.Field(i))
	}
	return all
}
