#!/bin/bash
# Envoy would refuse the renewal of one host. Then keys rotate. Other hosts' tickets resume.
. "$(dirname "$0")/lib.sh"
issue certs/shop.example DNS:shop.example
issue certs/other.example DNS:other.example
origin
plane
envoy other.example shop.example
first=$eager
envoy other.example shop.example
nodes=("127.0.0.1:$first" "127.0.0.1:$eager")
lockstep verify --sni shop.example --ca ca.crt "${nodes[@]}" >before 2>&1
check 'before' $? 0
for bad in tlsfeature=status_request keyUsage=critical,keyAgreement 1.2.3.4=critical,ASN1:UTF8String:x; do
	issue certs/other.example DNS:other.example "$bad"
	named() { lockstep cert list | grep '^other.example' | grep -q 'bad certificate'; }
	within 15 named
	check "$bad is named" $? 0
	lockstep rotate --wait --timeout 60s >rotated 2>&1
	check 'rotate' "$?$(tail -1 rotated | cut -c1-100)" '0*'
	lockstep verify --sni shop.example --ca ca.crt "${nodes[@]}" >after 2>&1
	check 'shop.example resumes' $? 0
	lockstep verify --sni other.example --ca ca.crt "${nodes[@]}" >after 2>&1
	check 'other.example resumes, too' $? 0
done
verdict
