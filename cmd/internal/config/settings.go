package config

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// Settings returns each key with its value, for a comparison. A value may be secret.
func (c *Config) Settings() map[string]string {
	out := map[string]string{}
	v := reflect.ValueOf(*c)
	for i := range v.NumField() {
		name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("yaml"), ",")
		if name != "-" && name != "" {
			out[name] = fmt.Sprintf("%+v", v.Field(i).Interface())
		}
	}
	for _, scope := range slices.Sorted(maps.Keys(c.Scopes)) {
		out["scopes: "+scope] = fmt.Sprintf("%+v", c.Scopes[scope])
	}
	return out
}
