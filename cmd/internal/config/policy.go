package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/lockstep-tls/lockstep/rotation"
)

// policyFile is a rotation.Policy as YAML. What it does not set keeps its default.
type policyFile struct {
	Period         *time.Duration `yaml:"period"`
	TicketLifetime *time.Duration `yaml:"ticket_lifetime"`
	MaxKeyAge      *time.Duration `yaml:"max_key_age"`
	Quorum         *string        `yaml:"quorum"`  // Quorum is such as 0.9 or 90%.
	Laggard        *string        `yaml:"laggard"` // Laggard is wait, or a duration.
	RefuseGrace    *time.Duration `yaml:"refuse_grace"`
	NodeLease      *time.Duration `yaml:"node_lease"`
	ClientCerts    *fingerprints  `yaml:"client_certs"`
}

func (f *policyFile) policy() (p rotation.Policy, err error) {
	p = rotation.DefaultPolicy()
	if f == nil {
		return p, nil
	}
	for _, d := range []struct{ to, from *time.Duration }{
		{&p.Period, f.Period}, {&p.TicketLifetime, f.TicketLifetime}, {&p.MaxKeyAge, f.MaxKeyAge},
		{&p.RefuseGrace, f.RefuseGrace}, {&p.NodeLease, f.NodeLease},
	} {
		if d.from != nil {
			*d.to = *d.from
		}
	}
	if f.MaxKeyAge == nil { // a longer period raises the default bound, up to the highest one
		p.MaxKeyAge = min(max(p.MaxKeyAge, p.Period), 24*time.Hour)
	}
	if f.ClientCerts != nil {
		if p.ClientCerts, err = clientCerts(string(*f.ClientCerts)); err != nil {
			return p, err
		}
	}
	if f.Quorum != nil {
		text, percent := strings.CutSuffix(*f.Quorum, "%")
		if p.Quorum, err = strconv.ParseFloat(text, 64); err != nil || strings.Trim(text, "0123456789.") != "" {
			return p, fmt.Errorf("quorum: %q is neither a share (0.9) nor a percentage (90%%)", *f.Quorum)
		}
		if percent {
			p.Quorum /= 100
		}
	}
	if f.Laggard != nil && *f.Laggard != "wait" {
		if p.Laggard, err = time.ParseDuration(*f.Laggard); err != nil {
			return p, fmt.Errorf("laggard: %q is neither wait nor a duration (10m)", *f.Laggard)
		}
	}
	return p, nil
}

// percent writes a share as a percentage.
func percent(share float64) string { return strconv.FormatFloat(share*100, 'f', -1, 32) + "%" }

// fingerprints are one or several SHA-256, as text or as a list. They are kept with ", " between
// them.
type fingerprints string

// UnmarshalYAML implements the interface of goccy/go-yaml.
func (f *fingerprints) UnmarshalYAML(b []byte) error {
	var one string
	if err := yaml.Unmarshal(b, &one); err == nil {
		*f = fingerprints(one)
		return nil
	}
	var list []string
	if err := yaml.Unmarshal(b, &list); err != nil || len(list) == 0 || slices.Contains(list, "none") {
		return fmt.Errorf("client_certs: %q is neither none nor a SHA-256, nor a list of these",
			strings.TrimSpace(string(b)))
	}
	*f = fingerprints(strings.Join(list, ", "))
	return nil
}

// clientCerts returns none, or SHA-256 fingerprints as 64 hex digits in lower case, sorted and with
// commas between them, so that two of them can be compared. openssl x509 -fingerprint writes one
// with colons.
func clientCerts(s string) (string, error) {
	if s == "none" {
		return s, nil
	}
	var all []string
	for one := range strings.SplitSeq(s, ",") {
		hash := strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(strings.TrimSpace(one), "sha256:"), ":", ""))
		if len(hash) != 64 || strings.Trim(hash, "0123456789abcdef") != "" {
			return "", fmt.Errorf(
				"client_certs: %q is neither none nor the SHA-256 of the CA's certificate (openssl x509 -noout "+
					"-fingerprint -sha256 -in ca.crt)", strings.TrimSpace(one))
		}
		all = append(all, hash)
	}
	slices.Sort(all)
	return strings.Join(slices.Compact(all), ","), nil
}
