package config

import (
	"fmt"
	"strconv"
	"strings"
	"time"

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
	ClientCerts    *string        `yaml:"client_certs"`
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
		if p.ClientCerts, err = clientCerts(*f.ClientCerts); err != nil {
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

// clientCerts returns none, or a SHA-256 fingerprint as 64 hex digits in lower case, so that two of
// them can be compared. openssl x509 -fingerprint writes it with colons.
func clientCerts(s string) (string, error) {
	if s == "none" {
		return s, nil
	}
	hash := strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(s, "sha256:"), ":", ""))
	if len(hash) != 64 || strings.Trim(hash, "0123456789abcdef") != "" {
		return "", fmt.Errorf(
			"client_certs: %q is neither none nor the SHA-256 of the CA's certificate (openssl x509 -noout "+
				"-fingerprint -sha256 -in ca.crt)", s)
	}
	return hash, nil
}
