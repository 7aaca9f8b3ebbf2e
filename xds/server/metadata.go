package server

import (
	"math"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/lockstep-tls/lockstep/xds"
)

// Only one field of a node's metadata is read, and two fields of that: lockstep: {port: 8443,
// eager: true}. The rest is skipped, so megabytes of it cost a scan and no memory.

// decodeMetadata returns a Struct with that field alone, or nil if there is none.
func decodeMetadata(b []byte) (s *structpb.Struct, err error) {
	err = eachField(b, func(key string, v []byte) error {
		if key != xds.MetadataKey {
			return nil
		}
		own := &structpb.Struct{Fields: map[string]*structpb.Value{}}
		err := fields(v, func(n protowire.Number, v []byte) error {
			if n != 5 { // struct_value
				return nil
			}
			return eachField(v, func(key string, v []byte) error {
				if key != xds.MetadataPort && key != xds.MetadataEager {
					return nil
				}
				value, err := decodeScalar(v)
				own.Fields[key] = value
				return err
			})
		})
		s = &structpb.Struct{Fields: map[string]*structpb.Value{xds.MetadataKey: structpb.NewStructValue(own)}}
		return err
	})
	return s, err
}

// eachField calls f with each entry of a Struct.
func eachField(b []byte, f func(key string, value []byte) error) error {
	return fields(b, func(n protowire.Number, entry []byte) error {
		if n != 1 {
			return nil
		}
		var key, value []byte
		err := fields(entry, func(n protowire.Number, v []byte) error {
			switch n {
			case 1:
				key = v
			case 2:
				value = v
			}
			return nil
		})
		if err != nil || len(key) > maxNodeID {
			return err
		}
		return f(string(key), value)
	})
}

// decodeScalar reads a number or a truth value. It returns null for every other kind of Value.
func decodeScalar(b []byte) (*structpb.Value, error) {
	out := structpb.NewNullValue()
	for len(b) > 0 {
		n, kind, size := protowire.ConsumeTag(b)
		if size < 0 {
			return nil, errWire
		}
		b = b[size:]
		if size = protowire.ConsumeFieldValue(n, kind, b); size < 0 {
			return nil, errWire
		}
		switch {
		case n == 2 && kind == protowire.Fixed64Type:
			v, _ := protowire.ConsumeFixed64(b)
			out = structpb.NewNumberValue(math.Float64frombits(v))
		case n == 4 && kind == protowire.VarintType:
			v, _ := protowire.ConsumeVarint(b)
			out = structpb.NewBoolValue(v != 0)
		}
		b = b[size:]
	}
	return out, nil
}

// readMetadata takes from a node's metadata the port on which it listens, and whether each of its
// chains has a ring.
func (m *machine) readMetadata(s *structpb.Struct) {
	own := s.GetFields()[xds.MetadataKey].GetStructValue().GetFields()
	if port := own[xds.MetadataPort].GetNumberValue(); port >= 1 && port <= math.MaxUint16 &&
		port == math.Trunc(port) {
		m.node.Port = uint16(port)
	}
	m.node.Eager = own[xds.MetadataEager].GetBoolValue()
}
