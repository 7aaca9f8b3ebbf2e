package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// toYAML writes what v is in JSON as YAML blocks. Scalars stay as JSON writes them, which YAML takes as they are, and our keys are plain words. So a node that is
// called 1e3 or on stays a string, which the YAML library that configuration is read with does not see to.
func toYAML(v any) ([]byte, error) {
	js, err := toJSON(v, "")
	if err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(js))
	d.UseNumber()
	var out bytes.Buffer
	err = yamlValue(&out, d, "")
	return bytes.TrimPrefix(out.Bytes(), []byte("\n")), err
}

// yamlValue writes the next value of d after a key or a dash, with all its lines at indent.
func yamlValue(w *bytes.Buffer, d *json.Decoder, indent string) error {
	t, err := d.Token()
	if err != nil {
		return err
	}
	open, isDelim := t.(json.Delim)
	if !isDelim {
		b, err := yamlScalar(t)
		fmt.Fprintf(w, " %s\n", b)
		return err
	}
	if !d.More() {
		fmt.Fprintf(w, " %s\n", map[json.Delim]string{'{': "{}", '[': "[]"}[open])
	} else {
		w.WriteString("\n")
	}
	for d.More() {
		if open == '[' {
			var item bytes.Buffer
			if err := yamlValue(&item, d, indent+"  "); err != nil {
				return err
			}
			// The first line of a map or list in a list goes behind the dash.
			fmt.Fprintf(w, "%s- %s", indent, strings.TrimLeft(item.String(), " \n"))
			continue
		}
		key, err := d.Token()
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "%s%s:", indent, key)
		if err := yamlValue(w, d, indent+"  "); err != nil {
			return err
		}
	}
	_, err = d.Token() // the end
	return err
}

func yamlScalar(t json.Token) ([]byte, error) {
	b, err := toJSON(t, "")
	return bytes.TrimSpace(b), err
}
