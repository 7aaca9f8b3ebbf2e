#!/bin/bash
# Node.js closes a connection that is idle for 5 s. POSTs with pauses around that are answered.
. "$(dirname "$0")/lib.sh"
need node
issue certs/shop.example DNS:shop.example
plane
port up
cat >server.js <<JS
const server = require('http').createServer((request, response) => {
  request.resume();
  request.on('end', () => response.end('ok'));
});
server.listen($up, '127.0.0.1');
JS
spawn node.log node server.js
opened "$up" node.log
edge
codes=()
post() { codes+=("$(status shop.example "$edge" / -d x)"); }
post
for pause in 4.9 5.0 5.05 5.1; do
	for _ in 1 2 3 4; do status shop.example "$edge" / -d x >>"out.$pause" & done
	sleep $pause
	post
done
for job in $(jobs -p); do [[ " ${started[*]} " == *" $job "* ]] || wait "$job"; done
check 'POSTs after pauses' "${codes[*]}" '200 200 200 200 200'
check 'others' "$(cat out.* | sed 's/200//g')" ''
verdict
