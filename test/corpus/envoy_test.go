package corpus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

// config is the configuration of an Envoy with a filter chain for each sample.
func config(listen, admin string, samples []sample) []byte {
	type m = map[string]any
	address := func(addr string) m {
		host, port, _ := strings.Cut(addr, ":")
		return m{"socket_address": m{"address": host, "port_value": json.Number(port)}}
	}
	var chains []m
	for _, s := range samples {
		chains = append(chains, m{
			"filter_chain_match": m{"server_names": []string{s.host}},
			"transport_socket": m{"name": "envoy.transport_sockets.tls", "typed_config": m{
				"@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
				"common_tls_context": m{"tls_certificates": []m{{
					"certificate_chain": m{"inline_bytes": s.chain}, "private_key": m{"inline_bytes": s.key},
				}}},
			}},
			"filters": []m{{
				"name":         "echo",
				"typed_config": m{"@type": "type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo"},
			}},
		})
	}
	out := m{"static_resources": m{"listeners": []m{{
		"name": "corpus", "address": address(listen), "filter_chains": chains,
		"listener_filters": []m{{"name": "inspector", "typed_config": m{
			"@type": "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector",
		}}},
	}}}}
	if admin != "" {
		out["admin"] = m{"address": address(admin)}
	}
	return must(json.Marshal(out))
}

// validate runs samples through one `envoy --mode validate`. The error has Envoy's words.
func validate(ctx context.Context, dir string, samples ...sample) error {
	path, err := fleet.EnvoyPath()
	if err != nil {
		return err
	}
	file := filepath.Join(dir, samples[0].host+".json")
	if err := os.WriteFile(file, config("127.0.0.1:1", "", samples), 0o600); err != nil {
		return err
	}
	defer os.Remove(file)
	out, err := exec.CommandContext(ctx, path, "--mode", "validate",
		"--log-level", "error", "-c", file).CombinedOutput()
	if err == nil && strings.Contains(string(out), "OK") {
		return nil
	}
	if said := saying.FindStringSubmatch(string(out)); said != nil {
		return errors.New(said[1])
	}
	return fmt.Errorf("%w: %s", err, out)
}

var saying = regexp.MustCompile(`(?s)initializing config.*?: (.*?)\n`)

// together is how many samples that ought to be good go into one process.
const together = 32

// judge returns what Envoy says of each sample. Those that are likely to be good go in together,
// and one by one where one of them is refused.
func judge(ctx context.Context, dir string, samples []sample, likely func(sample) bool) map[string]error {
	var mu sync.Mutex
	verdicts := map[string]error{}
	var groups [][]sample
	var good []sample
	for _, s := range samples {
		if !likely(s) {
			groups = append(groups, []sample{s})
		} else if good = append(good, s); len(good) == together {
			groups, good = append(groups, good), nil
		}
	}
	if len(good) > 0 {
		groups = append(groups, good)
	}
	var look func(group []sample)
	look = func(group []sample) {
		err := validate(ctx, dir, group...)
		if err != nil && len(group) > 1 {
			look(group[:len(group)/2])
			look(group[len(group)/2:])
			return
		}
		mu.Lock()
		defer mu.Unlock()
		for _, s := range group {
			verdicts[s.host] = err
		}
	}
	parallel(groups, look)
	return verdicts
}

// parallel calls do for each of all, a few at a time.
func parallel[T any](all []T, do func(T)) {
	work := make(chan T)
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for one := range work {
				do(one)
			}
		})
	}
	for _, one := range all {
		work <- one
	}
	close(work)
	wg.Wait()
}
