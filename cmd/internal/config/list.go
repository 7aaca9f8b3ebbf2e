package config

import "strings"

// list is the value of a flag with commas between its parts. Setting it replaces what it had.
type list []string

// String implements pflag.Value.
func (l *list) String() string { return strings.Join(*l, ",") }

// Set implements pflag.Value.
func (l *list) Set(s string) error {
	*l = nil
	if s != "" {
		*l = strings.Split(s, ",")
	}
	return nil
}

// Type implements pflag.Value.
func (l *list) Type() string { return "ids" }
