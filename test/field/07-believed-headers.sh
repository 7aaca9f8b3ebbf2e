#!/bin/bash
# Headers that upstreams take for the word of a proxy come from a client.
. "$(dirname "$0")/lib.sh"
issue certs/shop.example DNS:shop.example
origin
plane
edge
sent=() # each with a value that is looked for at the upstream
for name in X-Real-IP X_Real_IP True-Client-IP CF-Connecting-IP CF_Connecting_IP X-Client-IP X-Cluster-Client-IP \
	Fastly-Client-IP X-Azure-ClientIP X-Envoy-External-Address X-Envoy-Original-Path X-Original-URL X-Rewrite-URL \
	X-SSL-Client-Verify X-SSL-Client-DN SSL-Client-Cert X-Forwarded-For X_Forwarded_For X-Forwarded-Client-Cert \
	X-Forwarded-Port X-Forwarded-Prefix X-Forwarded-User Forwarded Proxy Remote-User X-Remote-User \
	X-Auth-Request-Email X-Accel-Redirect X-Sendfile-Type X-Middleware-Subrequest X-HTTP-Host-Override X-Host; do
	sent+=(-H "$name: forged-$name")
done
for version in --http1.1 --http2; do
	check "$version" "$(fetch shop.example "$edge" / $version "${sent[@]}" | grep -ioE '^[^:]*: *forged' | line)" ''
done
check 'the client in X-Real-IP' "$(fetch shop.example "$edge" / "${sent[@]}" | grep -i '^X-Real-IP' | tr -d '\r')" \
	'X-Real-Ip: 127.0.0.1'
check 'headers of applications' "$(fetch shop.example "$edge" / -H 'X-Request-ID: mine' -H 'Authorization: mine' \
	-H 'X-Api-Key: mine' -H 'X-Shop: mine' -H 'Traceparent: mine' | grep -c mine)" 5
verdict
