#!/bin/bash
# A renewal begins in an hour, or has expired. The good one before it stays, everywhere.
. "$(dirname "$0")/lib.sh"
issue certs/shop.example DNS:shop.example
issue certs/old.example DNS:old.example
origin
plane
envoy shop.example old.example
edge
cat >ca.cnf <<'CNF'
[ca]
default_ca = d
[d]
new_certs_dir = .
database = db
serial = serial
default_md = sha256
policy = p
unique_subject = no
[p]
commonName = optional
CNF
: >db
echo 1000 >serial
between() { # between HOST FROM TO replaces the certificate of a host
	echo "subjectAltName=DNS:$1" >ext
	openssl req -new -key "certs/$1/tls.key" -subj /CN=leaf -out csr 2>/dev/null
	openssl ca -batch -config ca.cnf -cert ca.crt -keyfile ca.key -in csr -extfile ext -notext -out new.crt \
		-startdate "$(date -ud "$2" +%y%m%d%H%M%SZ)" -enddate "$(date -ud "$3" +%y%m%d%H%M%SZ)" 2>ca.log ||
		wrong "fixture: $(tail -1 ca.log)"
	cp new.crt "certs/$1/.new"
	mv "certs/$1/.new" "certs/$1/tls.crt"
}
cp certs/shop.example/tls.crt shop.crt
cp certs/old.example/tls.crt old.crt
check before "$(status shop.example "$eager" /)$(status shop.example "$edge" /)" 200200
check before "$(status old.example "$eager" /)$(status old.example "$edge" /)" 200200
between shop.example +1hour +9days
between old.example -9days -1hour
named() { lockstep cert list | grep "^$1" | grep -qE "$2"; }
within 15 named shop.example 'not valid before'
check 'not yet valid is named' $? 0
within 15 named old.example 'expired'
check 'expired is named' $? 0
sleep 2
for node in $eager $edge; do
	check 'the good one stays' "$(serves "$node" shop.example shop.crt; echo $?)" 0
	check 'the good one stays' "$(serves "$node" old.example old.crt; echo $?)" 0
	check clients "$(status shop.example "$node" /)$(status old.example "$node" /)" 200200
done
for host in shop old; do
	lockstep cert put $host.test --cert certs/$host.example/tls.crt --key certs/$host.example/tls.key >put 2>&1
	check "cert put of $host" $? '[1-9]*'
done
verdict
