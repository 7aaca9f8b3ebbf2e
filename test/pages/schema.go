package pages

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// Schema is what the JSON Schema of a configuration file is made of.
type Schema struct {
	Title   string
	Default any            // Default is that of [Settings].
	Lists   map[string]any // Lists are those of [Settings].
	// Named are mappings from names to sections with the keys of a struct, with their defaults.
	Named map[string]any
	// Rules are keywords for keys, besides those that follow from the types. A key of an entry of a
	// list is written listeners[].address, and one of a named section scopes.*.period.
	Rules map[string]Rule
}

// Rule are keywords of a JSON Schema. A nil value takes a keyword away.
type Rule map[string]any

// Patterns for rules.
const (
	Duration = `^(\+?(0|(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+))$`
	// Address is host:port or unix:/path. OptionalAddress may be empty.
	Address         = `^(unix:[^@].*|` + hostPort + `)$`
	OptionalAddress = `^(|unix:[^@].*|` + hostPort + `)$`
	// Port is host:port. OptionalPort may be empty.
	Port         = `^` + hostPort + `$`
	OptionalPort = `^(|` + hostPort + `)$`
	// Addresses are several addresses, with commas between them. There may be none.
	Addresses = `^(|` + oneOf + `(,` + oneOf + `)*)$`

	hostPort = `([^:,\[\]]*|\[[^\[\],]*\]):[0-9A-Za-z-]*`
	oneOf    = `(unix:[^@,][^,]*|` + hostPort + `)`
)

// Patterns of durations that are too short or too long. What they leave out only a start finds,
// such as 24h1s for a bound of 24h.
const (
	zero    = `^\+?(0|([0.]+(ns|us|µs|μs|ms|s|m|h))+)$`
	over1h  = `(^\+?|[a-z])0*([2-9]|[1-9][0-9]+)(\.[0-9]*)?h`
	over24h = `(^\+?|[a-z])0*(2[5-9]|[3-9][0-9]|[1-9][0-9]{2,})(\.[0-9]*)?h`
)

// Positive is the rule of a duration that is not 0, up to 24 h. OneHour is that of one up to an
// hour, and Unbounded that of one without a bound.
var (
	Positive  = positive(zero + "|" + over24h)
	OneHour   = positive(zero + "|" + over1h)
	Unbounded = positive(zero)
)

func positive(not string) Rule {
	return Rule{"type": "string", "minimum": nil, "maximum": nil,
		"not": map[string]any{"type": "string", "pattern": not}}
}

// OneOf is a rule with the values that a key may have.
func OneOf(values ...string) Rule { return Rule{"enum": values} }

// Page returns the schema.
func (s Schema) Page(t testing.TB) []byte {
	t.Helper()
	used := map[string]bool{}
	root := s.object(t, reflect.ValueOf(s.Default), "", used)
	properties := root["properties"].(map[string]any)
	for name, section := range s.Named {
		properties[name] = map[string]any{
			"type":                 []string{"object", "null"},
			"additionalProperties": s.object(t, reflect.ValueOf(section), name+".*", used),
		}
		s.apply(properties[name].(map[string]any), name, used)
	}
	s.apply(root, "", used)
	for key := range s.Rules {
		if !used[key] {
			t.Errorf("there is a rule for %s, which is no key", key)
		}
	}
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["title"] = s.Title
	root["$comment"] = "Made from the code by make docs. Do not edit."
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(root); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// object is the schema of a struct.
func (s Schema) object(t testing.TB, v reflect.Value, path string, used map[string]bool) map[string]any {
	t.Helper()
	comments, _ := Comments(t, v.Type())
	properties := map[string]any{}
	last := ""
	for i := range v.NumField() {
		f := v.Type().Field(i)
		key, ok := keyOf(f)
		if !ok {
			continue
		}
		at := key
		if path != "" {
			at = path + "." + key
		}
		var one map[string]any
		if inner, ok := structOf(f.Type); ok {
			one = s.section(t, v.Field(i), key, inner == f.Type, used)
		} else {
			if text := comments[f.Name]; text != "" {
				last = text // one comment for several keys
			}
			one = leaf(v.Field(i))
			one["description"] = unescape(plain(last, v.Type(), key))
			if r := s.Rules[at]; f.Type.Kind() == reflect.String && (r["pattern"] != nil || r["enum"] != nil) {
				one["type"] = "string"
			}
		}
		s.apply(one, at, used)
		if _, section := structOf(f.Type); !section {
			nullable(one)
		}
		properties[key] = one
	}
	return map[string]any{
		"type": []string{"object", "null"}, "properties": properties, "additionalProperties": false,
	}
}

// section is the schema of a field that is a struct, or a list of structs.
func (s Schema) section(t testing.TB, v reflect.Value, key string, single bool, used map[string]bool) map[string]any {
	t.Helper()
	if single {
		return s.object(t, v, key, used)
	}
	entry, ok := s.Lists[key]
	if !ok {
		t.Fatalf("the defaults of an entry of %s are not given", key)
	}
	item := s.object(t, reflect.ValueOf(entry), key+"[]", used)
	item["type"] = "object"
	s.apply(item, key+"[]", used)
	return map[string]any{"type": "array", "items": item}
}

// apply adds the rule of a key.
func (s Schema) apply(to map[string]any, key string, used map[string]bool) {
	used[key] = true
	for keyword, value := range s.Rules[key] {
		if to[keyword] = value; value == nil {
			delete(to, keyword)
		}
	}
}

// nullable takes a key without a value, too. It keeps its default.
func nullable(one map[string]any) {
	switch t := one["type"].(type) {
	case string:
		one["type"] = []string{t, "null"}
	case []string:
		one["type"] = append(slices.Clone(t), "null")
	}
	switch values := one["enum"].(type) {
	case []string:
		var all []any
		for _, v := range values {
			all = append(all, v)
		}
		one["enum"] = append(all, nil)
	case []any:
		one["enum"] = append(slices.Clone(values), nil)
	}
}

// anyText are the types of what is read as a text: a name may look like a number.
var anyText = []string{"string", "number", "boolean"}

// leaf is the schema of a key without keys below it.
func leaf(v reflect.Value) map[string]any {
	one := map[string]any{}
	switch t := v.Type(); {
	case t == reflect.TypeFor[time.Duration]():
		one["type"], one["pattern"] = []string{"string", "integer"}, Duration
		one["minimum"], one["maximum"] = 0, 0
	case t.Kind() == reflect.String:
		one["type"] = anyText
	case t.Kind() == reflect.Bool:
		one["type"] = "boolean"
	case t.Kind() == reflect.Int:
		one["type"] = "integer"
	case t.Kind() == reflect.Slice:
		one["type"], one["items"] = "array", map[string]any{"type": anyText}
	}
	switch d := shown(v); {
	case v.Kind() == reflect.Bool, v.Kind() == reflect.Int && !v.IsZero():
		one["default"] = v.Interface()
	case d != "" && v.Kind() != reflect.Slice:
		one["default"] = d
	}
	return one
}

func unescape(s string) string {
	return strings.NewReplacer("&lt;", "<", "&gt;", ">", `\|`, "|").Replace(s)
}

// Valid returns why a YAML text does not follow the schema in a file of the checkout.
func Valid(t testing.TB, schema string, text []byte) error {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(Root(t), schema))
	if err != nil {
		t.Fatalf("%v: type make docs", err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("schema.json", doc); err != nil {
		t.Fatal(err)
	}
	compiled, err := c.Compile("schema.json") // it checks the schema by that of its draft
	if err != nil {
		t.Fatalf("%s is no schema: %v", schema, err)
	}
	js, err := yaml.YAMLToJSON(text)
	if err != nil {
		return err
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(js))
	if err != nil {
		return err
	}
	return compiled.Validate(value)
}

// SchemaKeys returns every key of a schema in a file of the checkout, written as in
// [Schema].Rules.
func SchemaKeys(t testing.TB, schema string) []string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(Root(t), schema))
	if err != nil {
		t.Fatalf("%v: type make docs", err)
	}
	type node struct {
		Properties           map[string]json.RawMessage
		Items                json.RawMessage
		AdditionalProperties json.RawMessage
	}
	var all []string
	var walk func(raw []byte, path string)
	walk = func(raw []byte, path string) {
		var n node
		if json.Unmarshal(raw, &n) != nil { // additionalProperties: false
			return
		}
		var more node
		switch {
		case len(n.Properties) > 0:
			for key, value := range n.Properties {
				walk(value, strings.TrimPrefix(path+"."+key, "."))
			}
		case json.Unmarshal(n.Items, &more) == nil && len(more.Properties) > 0:
			walk(n.Items, path+"[]")
		case json.Unmarshal(n.AdditionalProperties, &more) == nil && len(more.Properties) > 0:
			walk(n.AdditionalProperties, path+".*")
		default:
			all = append(all, path)
		}
	}
	walk(b, "")
	return slices.Sorted(slices.Values(all))
}

// Example is a YAML block of a page.
type Example struct {
	At   string // At is the page and the line.
	Text []byte
}

// Examples returns the YAML blocks of our pages that have one of keys at the top.
func Examples(t testing.TB, keys []string) (out []Example) {
	t.Helper()
	top := map[string]bool{}
	for _, k := range keys {
		name, _, _ := strings.Cut(k, ".")
		name, _, _ = strings.Cut(name, "[")
		top[name] = true
	}
	for _, p := range All(t) {
		for _, b := range p.Blocks {
			var doc map[string]any
			if b.Lang != "yaml" || !strings.HasPrefix(p.Path, "docs/") || yaml.Unmarshal([]byte(b.Text), &doc) != nil {
				continue
			}
			known := slices.ContainsFunc(slices.Collect(maps.Keys(doc)), func(k string) bool { return top[k] })
			if known {
				out = append(out, Example{fmt.Sprintf("%s:%d", p.Path, b.Line), []byte(b.Text)})
			}
		}
	}
	return out
}
