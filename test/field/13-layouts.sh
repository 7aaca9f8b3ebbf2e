#!/bin/bash
# Certificates as certbot, acme.sh, lego, Kubernetes and others lay them out.
. "$(dirname "$0")/lib.sh"
new() { issue "new/$1" "DNS:$1,DNS:www.$1"; } # new NAME makes new/NAME/tls.crt and tls.key
into() { mkdir -p "$(dirname "$3")" && cp "new/$1/tls.$2" "$3"; }
# certbot: links into archive, a README, a second lineage of a name
for name in certbot.example second.example-0001; do
	new $name
	into $name crt le/archive/$name/fullchain1.pem
	into $name crt le/archive/$name/cert1.pem
	into $name key le/archive/$name/privkey1.pem
	mkdir -p le/live/$name
	for file in fullchain privkey cert; do
		ln -s ../../archive/$name/${file}1.pem le/live/$name/$file.pem
	done
	echo 'This directory contains your keys and certificates.' >le/live/$name/README
done
new second.example
rm -r le/archive/second.example-0001/*
into second.example crt le/archive/second.example-0001/fullchain1.pem
into second.example crt le/archive/second.example-0001/cert1.pem
into second.example key le/archive/second.example-0001/privkey1.pem
echo 'This directory contains your keys and certificates.' >le/live/README
chmod 700 le/live le/archive
plane --certs le/live
listed() { within 5 eval "lockstep cert list 2>/dev/null | grep -q '^$1 .*Field CA'"; }
listed certbot.example
check 'certbot in --certs' $? 0
listed second.example
check 'NAME-0001' $? 0
check 'names that nothing serves' "$(lockstep cert list | grep ^certbot | line)" '*www.certbot.example*'
check 'no problem with the README' "$(lockstep status 2>&1 | grep -ci readme)" 0
# renewed as certbot does it: new files in archive, then the links
issue new/certbot.example DNS:certbot.example,DNS:www.certbot.example
into certbot.example crt le/archive/certbot.example/fullchain2.pem
into certbot.example key le/archive/certbot.example/privkey2.pem
for file in privkey fullchain; do
	ln -sfn ../../archive/certbot.example/${file}2.pem le/live/certbot.example/$file.pem
done
edge
within 15 serves "$edge" certbot.example new/certbot.example/tls.crt
check 'a renewal by certbot' $? 0
# acme.sh, lego, Kubernetes, one PEM for HAProxy
for name in acme.example lego.example k8s.example pem.example; do new $name; done
into acme.example crt im/acme.example_ecc/fullchain.cer
into acme.example key im/acme.example_ecc/acme.example.key
into acme.example crt im/acme.example_ecc/acme.example.cer
cp ca.crt im/acme.example_ecc/ca.cer
echo Le_Domain=acme.example >im/acme.example_ecc/acme.example.conf
into lego.example crt im/lego.example.crt
into lego.example key im/lego.example.key
cp ca.crt im/lego.example.issuer.crt
echo '{"domain": "lego.example"}' >im/lego.example.json
into k8s.example crt im/k8s.example/..2026_1/tls.crt
into k8s.example key im/k8s.example/..2026_1/tls.key
cp ca.crt im/k8s.example/..2026_1/ca.crt
ln -s ..2026_1 im/k8s.example/..data
for file in tls.crt tls.key ca.crt; do ln -s ..data/$file im/k8s.example/$file; done
cat new/pem.example/tls.crt new/pem.example/tls.key >im/pem.example.pem
seen=$(lockstep cert import im 2>&1 | line)
check 'cert import' "$seen" '*4 stored*'
for name in acme lego k8s pem; do
	listed $name.example
	check "$name is imported" $? 0
done
# one by one
lockstep cert put put.example --cert new/pem.example/tls.crt --key new/pem.example/tls.key >out 2>&1
check 'a name that the certificate lacks' "$?$(line <out)" '[1-9]*www.pem.example*'
lockstep cert put www.certbot.example --cert le/live/certbot.example >out 2>&1
check 'cert put of a folder' "$?$(line <out)" '0*'
lockstep cert put www.pem.example --cert im/pem.example.pem >out 2>&1
check 'cert put of one PEM' "$?$(line <out)" '0*'
verdict
