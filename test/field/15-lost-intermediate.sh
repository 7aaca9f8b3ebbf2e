#!/bin/bash
# A renewal has the leaf alone; the one before had its intermediate. It is told, wherever one looks.
. "$(dirname "$0")/lib.sh"
ca int 'Field Intermediate' ca
by=int issue certs/shop.example DNS:shop.example
cat int.crt >>certs/shop.example/tls.crt
origin
plane
edge
check before "$(status shop.example "$edge" /)" 200
cp certs/shop.example/tls.crt full.crt
by=int issue certs/shop.example DNS:shop.example
told() { lockstep cert list | grep '^shop.example' | grep -qiE 'intermediate|chain|issuer'; }
within 15 told
check 'cert list' $? 0
check status "$(lockstep status 2>&1 | grep -ciE 'intermediate|chain')" '[1-9]*'
check 'the log' "$(grep -E 'WARN|cert-' plane.log | grep -ciE 'intermediate|chain')" '[1-9]*'
check 'cert put' "$(lockstep cert put other.test --cert certs/shop.example/tls.crt --key certs/shop.example/tls.key \
	2>&1 | line)" '*@(intermediate|chain|issuer|other.test)*'
check 'clients' "$(status shop.example "$edge" /)" 200
verdict
