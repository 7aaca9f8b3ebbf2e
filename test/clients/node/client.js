// A Node.js that makes a connection for each line on standard input, with the sessions that its
// agent keeps.
//
//     node client.js HOST PORT CA VERSION
const fs = require('fs'), https = require('https'), readline = require('readline');

const [host, port, ca, version] = process.argv.slice(2);
const agent = new https.Agent({
  keepAlive: false, ca: fs.readFileSync(ca), minVersion: 'TLSv' + version, maxVersion: 'TLSv' + version,
  lookup: (_, o, done) => (o.all ? done(null, [{address: '127.0.0.1', family: 4}]) : done(null, '127.0.0.1', 4)),
});

readline.createInterface({input: process.stdin}).on('line', () => {
  https.get({host, port, agent, path: '/', headers: {Connection: 'close'}}, (r) => {
    r.resume();
    r.on('close', () => console.log(r.statusCode === 200 ? 'ok' : 'error: ' + r.statusCode));
  }).on('error', (e) => console.log('error: ' + e.message));
});
