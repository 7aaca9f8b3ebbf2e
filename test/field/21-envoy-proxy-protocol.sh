#!/bin/bash
# An Envoy that demands the PROXY protocol is verified, too.
. "$(dirname "$0")/lib.sh"
issue certs/shop.example DNS:shop.example
origin
plane
[ -x "$envoy" ] || skip "Envoy is not here: make envoy"
nodes=()
for node in a b; do
	port p
	port a
	lockstep bootstrap envoy --host shop.example --node $node --listen "127.0.0.1:$p" --admin "127.0.0.1:$a" \
		--upstream "127.0.0.1:$up" | $python -c '
import sys, re
text = sys.stdin.read()
filter = """listener_filters:
    - name: envoy.filters.listener.proxy_protocol
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol
"""
sys.stdout.write(text.replace("listener_filters:\n", filter, 1))' >$node.yaml
	grep -q proxy_protocol.v3 $node.yaml || wrong "fixture: the bootstrap has no listener_filters"
	run_envoy $node.yaml
	opened "$p" $node.yaml.log
	nodes+=("127.0.0.1:$p")
done
for version in v1 v2; do
	lockstep verify --sni shop.example --ca ca.crt --proxy-protocol=$version "${nodes[@]}" >verify.log 2>&1
	check "verify with $version" "$?$(grep -v resumed verify.log | line 200)" '0*'
done
lockstep verify --sni shop.example --ca ca.crt "${nodes[@]}" >verify.log 2>&1
check 'verify without a header fails' $? '[1-9]*'
verdict
