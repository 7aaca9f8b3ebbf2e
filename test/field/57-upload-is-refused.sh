#!/bin/bash
# A client sends 10 MB to an upstream that is down, or to a path that is refused. It reads why.
. "$(dirname "$0")/lib.sh"
issue certs/shop.example DNS:shop.example
plane
port up
edge
head -c 10000000 /dev/zero >large
for version in --http1.1 --http2; do
	for expect in Expect: 'Expect: 100-continue'; do
		codes=
		for _ in 1 2 3; do codes+=$(status shop.example "$edge" / $version --data-binary @large -H "$expect"); done
		check "no upstream, $version, $expect" "$codes" 502502502
	done
	codes=
	for _ in 1 2 3; do
		codes+=$(status shop.example "$edge" /public/../admin --path-as-is $version --data-binary @large -H Expect:)
	done
	check "a path that is refused, $version" "$codes" 400400400
done
verdict
