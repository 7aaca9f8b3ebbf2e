package lds

import (
	"bytes"
	"fmt"
	"strings"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"github.com/goccy/go-yaml"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protopath"
	"google.golang.org/protobuf/reflect/protorange"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// maxTemplate is how many bytes of a template are parsed at most.
const maxTemplate = 1 << 20

// bad returns an error that wraps ErrBadTemplate.
func bad(format string, a ...any) error {
	return fmt.Errorf("%w: %s", ErrBadTemplate, fmt.Sprintf(format, a...))
}

// decode reads a listener as Envoy does: YAML, through JSON, strictly. It applies the rules of the
// protos, down into every extension.
func decode(text []byte) (*listenerv3.Listener, error) {
	if len(text) > maxTemplate {
		return nil, bad("%d bytes, at most %d", len(text), maxTemplate)
	}
	js, err := yaml.YAMLToJSON(text)
	if err != nil {
		return nil, bad("%s", yaml.FormatError(err, false, false))
	}
	if string(bytes.TrimSpace(js)) == "null" {
		return nil, bad("it is empty")
	}
	l := new(listenerv3.Listener)
	if err := protojson.Unmarshal(js, l); err != nil {
		return nil, bad("%s", explain(err))
	}
	return l, validate(l)
}

// explain shortens an error of protojson. Its positions are in JSON that nobody wrote, and its
// blanks vary from run to run.
func explain(err error) string {
	words := strings.ReplaceAll(err.Error(), "\u00a0", " ")
	if _, rest, ok := strings.Cut(words, "): "); ok && strings.Contains(words, "(line ") {
		words = rest
	}
	words = strings.TrimPrefix(words, "proto: ")
	if strings.HasPrefix(words, "unable to resolve ") {
		words += ": no extension of Envoy 1.40 that lockstepd knows has this type"
	}
	return words
}

// validate checks every message in l, including those in an Any.
func validate(l *listenerv3.Listener) error {
	err := protorange.Range(l.ProtoReflect(), func(p protopath.Values) error {
		m, ok := p.Index(-1).Value.Interface().(protoreflect.Message)
		if !ok {
			return nil
		}
		if v, ok := m.Interface().(interface{ Validate() error }); ok {
			return v.Validate()
		}
		return nil
	})
	if err != nil {
		return bad("%v", err)
	}
	return nil
}

var deterministic = proto.MarshalOptions{Deterministic: true}
