#!/bin/bash
# An Envoy starts while one of its hosts has no good certificate. The others serve, and that one
# serves once it is mended.
. "$(dirname "$0")/lib.sh"
issue certs/shop.example DNS:shop.example
issue certs/other.example DNS:other.example
cp -r certs/other.example good
issue certs/other.example DNS:other.example tlsfeature=status_request
origin
sed "s/0\.0\.0\.0/127.0.0.1/" "$root/deploy/envoy/listener.yaml" >listener.yaml
port hybrid
port hybrid_admin
sed -i "s/8443/$hybrid/" listener.yaml
echo "listeners: {template: $work/listener.yaml, hosts: [other.example, shop.example]}" >plane.yaml
plane --config plane.yaml
envoy other.example shop.example
check 'eager' "$(within 30 answers 200 shop.example "$eager"; echo $?)" 0
lockstep bootstrap envoy --mode hybrid --node hybrid --admin "127.0.0.1:$hybrid_admin" --upstream "127.0.0.1:$up" \
	>hybrid.yaml || wrong "fixture: no bootstrap"
run_envoy hybrid.yaml
within 30 answers 200 shop.example "$hybrid"
check 'with its listener from lockstepd' $? 0
lockstep status >status 2>&1
check 'status names it' "$?$(grep -c 'other.example' status)" '[1-9]*[1-9]'
mv certs/other.example bad
mv good certs/other.example
for node in $eager $hybrid; do
	within 30 answers 200 other.example "$node"
	check 'mended' $? 0
done
lockstep rotate --wait --timeout 30s >rotated 2>&1
check 'rotate' $? 0
check 'clients' "$(status shop.example "$eager" /)$(status shop.example "$hybrid" /)" 200200
verdict
