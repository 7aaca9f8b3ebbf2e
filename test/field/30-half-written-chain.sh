#!/bin/bash
# A chain is written in place in two goes, 1.5 s apart. No client fails meanwhile.
. "$(dirname "$0")/lib.sh"
ca int 'Field Intermediate' ca
by=int issue certs/shop.example DNS:shop.example
cat int.crt >>certs/shop.example/tls.crt
origin
plane
edge
envoy shop.example
check before "$(status shop.example "$edge" /)$(status shop.example "$eager" /)" 200200
mkdir new
cp certs/shop.example/tls.key new
by=int issue new DNS:shop.example
cat new/tls.crt >certs/shop.example/tls.crt
failed=0
for i in $(seq 70); do
	[ "$i" != 15 ] || cat int.crt >>certs/shop.example/tls.crt
	[ "$(status shop.example "$edge" /)$(status shop.example "$eager" /)" = 200200 ] || failed=$((failed + 1))
	sleep .08
done
check 'rounds that failed' $failed 0
for node in $edge $eager; do
	within 15 serves "$node" shop.example new/tls.crt
	check 'the new one is served' $? 0
done
verdict
