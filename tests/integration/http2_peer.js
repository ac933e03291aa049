'use strict';
// Both ends of HTTP/2 in clear, for http2.py. Each prints a line of JSON for every exchange it had.
//   node http2_peer.js serve ADDRESS PORT
//   node http2_peer.js drive ADDRESS PORT COUNT    COUNT exchanges on one connection, and COUNT
//                                                  more for each line on standard input

const http2 = require('http2');
const readline = require('readline');

const [role, address, port, count] = process.argv.slice(2);
const FILL = Buffer.alloc(1 << 20, 'GET /no-request HTTP/1.1\r\n\r\n'.padEnd(1024, 'x'));
const say = (told) => process.stdout.write(JSON.stringify(told) + '\n');

function serve() {
    const server = http2.createServer();
    server.on('stream', (stream, headers) => {
        const told = { method: headers[':method'], target: headers[':path'], sent: 0, got: 0 };
        const [, kind, size] = headers[':path'].split('/');
        stream.on('error', () => {});
        stream.on('data', (data) => (told.got += data.length));
        stream.on('close', () => {
            told.status = stream.sentHeaders ? stream.sentHeaders[':status'] : undefined;
            told.reset = stream.rstCode;
            say(told);
        });
        const send = (body) => {
            told.sent = stream.headRequest ? 0 : body.length;
            stream.end(body);
        };
        stream.on('end', () => {
            const body = FILL.subarray(0, Number(size));
            const answers = {
                length: () => {
                    stream.respond({ ':status': 200, 'content-length': size, 'x-n': told.target });
                    send(body);
                },
                status: () => stream.respond({ ':status': Number(size) }, { endStream: true }),
                hints: () => {
                    stream.additionalHeaders({ ':status': 103, link: '</a>' });
                    stream.respond({ ':status': 200 });
                    send(body);
                },
                trailers: () => {
                    stream.respond({ ':status': 200 }, { waitForTrailers: true });
                    stream.on('wantTrailers', () => stream.sendTrailers({ 'x-sum': size }));
                    send(body);
                },
                reset: () => stream.close(http2.constants.NGHTTP2_REFUSED_STREAM),
            };
            answers[kind]();
        });
    });
    server.listen(port, address, () => say('ready'));
}

function exchange(session, n) {
    const sizes = [0, 1, 100, 5000, 16384, 40000, 200000];
    const size = sizes[n % sizes.length];
    const kinds = ['length', 'length', 'hints', 'trailers', 'length', 'reset'];
    const kind = n % 11 === 10 ? 'status' : kinds[n % kinds.length];
    const path = `/${kind}/${kind === 'status' ? [204, 304, 404, 503][n % 4] : size}/${n}`;
    const method = n % 5 === 4 ? 'POST' : n % 13 === 12 ? 'HEAD' : 'GET';
    const headers = { ':method': method, ':path': path, 'x-turn': String(n % 7), cookie: `a=${n}` };
    const told = { method, target: path, sent: 0, got: 0 };
    return new Promise((resolve) => {
        const stream = session.request(headers, { endStream: method !== 'POST' });
        if (method === 'POST') {
            told.sent = sizes[(n + 3) % sizes.length];
            stream.end(FILL.subarray(0, told.sent));
        }
        stream.on('response', (got) => (told.status = got[':status']));
        stream.on('data', (data) => (told.got += data.length));
        stream.on('error', () => {});
        stream.on('close', () => {
            told.reset = stream.rstCode;
            say(told);
            resolve();
        });
    });
}

async function drive() {
    const session = http2.connect(`http://${address}:${port}`);
    let n = 0;
    // Eight at a time.
    const part = async () => {
        const until = n + Number(count);
        const one = async () => {
            while (n < until) await exchange(session, n++);
        };
        await Promise.all(Array.from({ length: 8 }, one));
        say('done');
    };
    await part();
    for await (const _ of readline.createInterface({ input: process.stdin })) await part();
    session.close();
}

if (role === 'serve') serve();
else drive();
