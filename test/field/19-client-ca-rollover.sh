#!/bin/bash
# Two client CAs at once, for Envoy as for the edge; a CA file with a comment; a CA twice.
. "$(dirname "$0")/lib.sh"
issue certs/shop.example DNS:shop.example
ca cb 'Field CB'
issue a DNS:a.client extendedKeyUsage=clientAuth
by=cb issue b DNS:b.client extendedKeyUsage=clientAuth
print() { openssl x509 -in "$1" -noout -fingerprint -sha256 | cut -d= -f2 | tr -d : | tr A-F a-f; }
cat ca.crt cb.crt >both.crt
{ echo '# our CA'; cat ca.crt; } >comment.crt
cat ca.crt ca.crt >twice.crt
origin
port listener
template() { # template FILE writes a listener that demands client certificates
	sed "s/0\.0\.0\.0/127.0.0.1/; s/8443/$listener/; /^  # What TLS/,\$d" "$root/deploy/envoy/listener.yaml"
	cat <<Y
  transport_socket:
    name: "envoy.transport_sockets.tls"
    typed_config:
      "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
      require_client_certificate: true
      common_tls_context:
        validation_context: {trusted_ca: {inline_string: $($python -c 'import json, sys
print(json.dumps(open(sys.argv[1]).read()))' "$1")}}
Y
}
try() { # try CA-FILE CLIENT-CERTS prints "taken" or what lockstepd says
	template "$1" >listener.yaml
	cat >plane.yaml <<Y
listeners: {template: $work/listener.yaml, hosts: [shop.example]}
scopes:
  default:
    client_certs: $2
Y
	rm -rf data
	port admin
	spawn try.log timeout 15 "$bin/lockstepd" --data-dir data --certs certs --admin-listen "127.0.0.1:$admin" \
		--config plane.yaml
	local pid=$!
	within 10 settled "$admin" $pid
	if ready "$admin"; then echo taken; else grep . try.log | tail -1; fi
	stop $pid
}
check 'one CA' "$(try ca.crt "$(print ca.crt)")" taken
check 'two CAs' "$(try both.crt "[$(print ca.crt), $(print cb.crt)]")" taken
check 'in another order' "$(try both.crt "[$(print cb.crt), $(print ca.crt)]")" taken
check 'a comment before it' "$(try comment.crt "$(print ca.crt)")" taken
check 'the same twice' "$(try twice.crt "$(print ca.crt)")" '@(taken|*twice*)'
check 'a CA that the scope does not name' "$(try both.crt "$(print ca.crt)")" '*client_certs*'
rm -rf data
printf 'scopes:\n  default:\n    client_certs: [%s, %s]\n' "$(print ca.crt)" "$(print cb.crt)" >plane.yaml
plane --config plane.yaml
edge "s#^  scope: .*#&\n  client_ca: $work/both.crt#"
for who in a b; do
	check "$who at the edge" "$(status shop.example "$edge" / --cert $who/tls.crt --key $who/tls.key)" 200
done
check 'nobody at the edge' "$(status shop.example "$edge" /)" 000
verdict
