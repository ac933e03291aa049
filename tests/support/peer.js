'use strict';
// Either end of the lab's wire, for tests/differential.rs, with nothing but what Node brings along:
//   node peer.js serve PORT            a server, a WebSocket server and a CONNECT proxy
//   node peer.js drive COUNT NGINX NODE [NGINX NODE]...
//                                      a client: COUNT requests of mixed kinds, and one of each odd
//                                      kind, to each pair of servers (an address, a colon, a port)

const crypto = require('crypto');
const http = require('http');
const net = require('net');
const zlib = require('zlib');

// What bodies are made of, so that it shows where one is taken for a head.
const FILL = Buffer.alloc(1 << 20, 'GET /no-request HTTP/1.1\r\n\r\n'.padEnd(1024, 'x'));
const turn = () => new Promise((resolve) => setImmediate(resolve));

// ---- The server. The first part of a path says how it answers, the second with how many bytes.

const answers = {
    length: (request, response, bytes) => response.end(FILL.subarray(0, bytes)),
    async chunked(request, response, bytes) {
        for (let at = 0, part = 1; at < bytes; at += part, part = part * 3 + 1) {
            response.write(FILL.subarray(at, Math.min(at + part, bytes)));
            await turn();
        }
        response.end();
    },
    trailers(request, response, bytes) {
        response.setHeader('Trailer', 'X-Sum');
        response.write(FILL.subarray(0, bytes));
        response.addTrailers({ 'X-Sum': 'abc' });
        response.end();
    },
    // Neither Content-Length nor chunks: the body ends where the connection does.
    close(request, response, bytes) {
        response.useChunkedEncodingByDefault = false;
        response.write(FILL.subarray(0, bytes));
        response.end();
    },
    hints(request, response, bytes) {
        response.writeProcessing();
        response.writeEarlyHints({ link: '</style.css>; rel=preload' });
        response.end(FILL.subarray(0, bytes));
    },
    status(request, response, status) {
        response.writeHead(status);
        response.end();
    },
    gzip(request, response, bytes) {
        response.setHeader('Content-Encoding', 'gzip');
        response.end(zlib.gzipSync(FILL.subarray(0, bytes)));
    },
    // Answers while the request still comes.
    echo: (request, response) => request.pipe(response),
    // A message that never ends, one way or the other, or never begins.
    abort(request, response, bytes) {
        response.writeHead(200, { 'Content-Length': bytes + 1 });
        response.write(FILL.subarray(0, bytes), () => response.socket.destroy());
    },
    reset(request, response, bytes) {
        response.writeHead(200, { 'Content-Length': bytes + 1 });
        response.write(FILL.subarray(0, bytes), () => response.socket.resetAndDestroy());
    },
    silent: (request, response) => response.socket.destroy(),
};

function serve(port) {
    const answer = (request, response) => {
        const [, how, number] = request.url.split('?')[0].split('/');
        const none = (request, response) => answers.status(request, response, 404);
        // So that a record shows which request its answer was meant for.
        response.setHeader('Location', request.url);
        if (how !== 'echo') request.resume();
        (answers[how] || none)(request, response, Number(number || 0));
    };
    const server = http.createServer(answer);
    server.on('checkContinue', (request, response) => {
        if (request.url.startsWith('/status/4')) return answer(request, response);
        response.writeContinue();
        answer(request, response);
    });
    server.on('upgrade', (request, socket) => {
        const key = request.headers['sec-websocket-key'] + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';
        const accept = crypto.createHash('sha1').update(key).digest('base64');
        socket.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n' +
            `Connection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`);
        // An unmasked text frame that holds what would be a head, then a close frame at the end.
        const text = 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n';
        socket.write(Buffer.concat([Buffer.from([0x81, text.length]), Buffer.from(text)]));
        socket.once('data', () => socket.end(Buffer.from([0x88, 0])));
    });
    server.on('connect', (request, client) => {
        const [, host, port] = /^(.*):(\d+)$/.exec(request.url);
        const upstream = net.connect(port, host.replace(/[[\]]/g, ''), () => {
            client.write('HTTP/1.1 200 Connection Established\r\n\r\n');
            client.pipe(upstream).pipe(client);
        });
        upstream.on('error', () => client.destroy());
        client.on('error', () => upstream.destroy());
    });
    server.listen(port, '::', () => console.error('ready'));
}

// ---- The client.

// A request by Node's own client, to its end, whatever the end is.
function ask(to, options, body) {
    return new Promise((resolve) => {
        const request = http.request({ host: to.host, port: to.port, ...options });
        const done = () => resolve();
        request.on('error', done).on('close', done);
        request.on('response', (response) => {
            response.on('error', done);
            if (!options.breakOff) return response.resume().on('end', done);
            response.once('data', () => request.socket[options.breakOff]());
        });
        request.on('upgrade', (response, socket) => {
            // Masked, as a client's frames are.
            socket.write(Buffer.from([0x81, 0x82, 1, 2, 3, 4, 0x68 ^ 1, 0x69 ^ 2]));
            socket.resume().on('end', () => socket.end()).on('close', done);
        });
        request.on('continue', () => request.end(body));
        for (const part of options.parts || []) request.write(part);
        if (options.headers?.Expect) request.flushHeaders();
        else request.end(body);
    });
}

// Bytes of our own making, piece by piece, until the server closes.
function raw(to, pieces, halfClose = false) {
    return new Promise((resolve) => {
        const socket = net.connect({ host: to.host, port: to.port, allowHalfOpen: halfClose });
        socket.setNoDelay(true);
        socket.on('error', resolve).on('close', resolve);
        socket.on('end', () => socket.end()).resume();
        socket.on('connect', async () => {
            for (const piece of pieces) {
                socket.write(piece);
                await turn();
            }
            if (halfClose) socket.end();
        });
    });
}

const size = (number) => (number % 17 ? (number * 7919) % 20000 : 200000);
const kinds = [
    (n) => [{ path: `/length/${size(n)}?n=${n}&x=%20` }],
    (n) => [{ path: `/chunked/${size(n)}` }],
    (n) => [{ path: `/length/${size(n)}`, method: 'HEAD' }],
    (n) => [{ path: '/length/3', method: 'POST' }, FILL.subarray(0, size(n))],
    (n) => [{ path: `/chunked/${n % 100}`, method: 'PUT',
        parts: [FILL.subarray(0, size(n)), 'x'] }],
    // In one segment: tshark ends a message too early whose trailers come in pieces.
    (n) => [{ path: `/trailers/${n % 1000}` }],
    () => [{ path: '/status/204', method: 'DELETE' }],
    () => [{ path: '/status/304', headers: { 'If-None-Match': '"x"' } }],
    () => [{ path: '/status/500', headers: { Cookie: 'c'.repeat(6000) } }],
    (n) => [{ path: `/hints/${n % 1000}` }],
    (n) => [{ path: `/gzip/${size(n)}` }],
    () => [{ path: '/length/0' }],
    (n) => [{ path: '/length/9', method: 'POST', headers: { Expect: '100-continue',
        'Content-Length': size(n) } }, FILL.subarray(0, size(n))],
    (n) => [{ path: '/echo', method: 'POST', parts: [FILL.subarray(0, size(n))] }, 'end'],
    (n) => [{ path: `/close/${size(n)}` }],
    () => [{ path: '/none', method: 'OPTIONS' }],
];

async function mix(to, count) {
    const agent = new http.Agent({ keepAlive: true, maxSockets: 6 });
    let next = 0;
    const worker = async () => {
        while (next < count) {
            const number = next++;
            const [options, body] = kinds[number % kinds.length](number);
            await ask(to, { ...options, agent }, body);
        }
    };
    await Promise.all(Array.from({ length: 6 }, worker));
    agent.destroy();
}

const get = (path, more = '') => `GET ${path} HTTP/1.1\r\nHost: lab\r\n${more}\r\n`;
const last = (path) => get(path, 'Connection: close\r\n');

// What both servers are asked in bytes of our own making.
async function odd(to, path) {
    // Pipelined: in one segment; with bodies between; cut anywhere.
    await raw(to, [get(`${path}/1`) + get(`${path}/2`) + last(`${path}/3`)]);
    const post = (number) => `POST ${path}/${number} HTTP/1.1\r\nHost: lab\r\n`;
    const trailer = 'X-Trailer: t\r\n';
    const bodies = `${post(4)}Content-Length: 11\r\n\r\nGET / HTTP/` +
        `${post(5)}Transfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\nA\r\n0123456789\r\n0\r\n` +
        `${trailer}\r\n${last(`${path}/6`)}`;
    await raw(to, [bodies]);
    // tshark errs where trailers come in pieces, or the CRLF behind the last chunk in two.
    const untrailed = bodies.replace(trailer, '');
    await raw(to, untrailed.match(/(\r\n|[^]){1,6}/g));
    await raw(to, untrailed.split(/(?<=\n)/));
    // The client closes its half first.
    await raw(to, [get(`${path}/7`)], true);
    // HTTP/1.0, and what is no HTTP.
    await raw(to, [`GET ${path}/8 HTTP/1.0\r\n\r\n`]);
    await raw(to, [`GET ${path}/9 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n`, last(`${path}/10`)]);
    await raw(to, ['no HTTP\r\n\r\n']);
    await raw(to, [get(`${path}/11`), `GET ${path}/12 HTTP/1.1\r\nno header\r\n\r\n`]);
}

async function drive(count, servers) {
    const parse = (server) => {
        const [, host, port] = /^(.*):(\d+)$/.exec(server);
        return { host, port: Number(port) };
    };
    const agent = false;
    for (let at = 0; at < servers.length; at += 2) {
        const [nginx, node] = servers.slice(at, at + 2).map(parse);
        await mix(node, count);
        await odd(nginx, '/small');
        await odd(node, '/length');
        for (const breakOff of ['destroy', 'resetAndDestroy']) {
            await ask(nginx, { path: '/1m', agent, breakOff });
            await ask(node, { path: '/chunked/1000000', agent, breakOff });
        }
        for (const path of ['/abort/0', '/abort/100', '/reset/100', '/reset/70000', '/silent']) {
            await ask(node, { path, agent });
        }
        const refused = { Expect: '100-continue', 'Content-Length': 70000 };
        await ask(node, { path: '/status/401', method: 'PUT', agent, headers: refused });
        const key = crypto.randomBytes(16).toString('base64');
        const upgrade = { Connection: 'Upgrade', Upgrade: 'websocket',
            'Sec-WebSocket-Version': '13', 'Sec-WebSocket-Key': key };
        await ask(node, { path: '/socket', agent, headers: upgrade });
    }
}

const [mode, first, ...rest] = process.argv.slice(2);
if (mode === 'serve') serve(Number(first));
else drive(Number(first), rest);
