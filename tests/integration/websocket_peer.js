'use strict';
// Both ends of WebSocket, with the package `ws`, for websocket.py; over HTTP/2 in the streams of
// Node's own http2. Each prints a line of JSON for every talk it had.
//   node websocket_peer.js serve ADDRESS PORT PORT_HTTP2
//   node websocket_peer.js drive ADDRESS PORT NAME [http2]

const crypto = require('crypto');
const http2 = require('http2');
const readline = require('readline');
const WebSocket = require('ws');

const [role, address, port, name, kind] = process.argv.slice(2);
const OPEN_MAX_BYTES = 1 << 26;
const say = (told) => process.stdout.write(JSON.stringify(told) + '\n');

// What one side of a talk has sent and got.
class Talk {
    constructor(ws, target, deflate) {
        Object.assign(this, { ws, target, deflate, closes: null, ended: false, commands: [] });
        this.sent = { text: 0, binary: 0, bytes: 0, frames: 0, pings: 0 };
        this.got = { text: 0, binary: 0, bytes: 0 };
        this.waiting = [];
        ws.on('message', (data, isBinary) => {
            this.got[isBinary ? 'binary' : 'text'] += 1;
            this.got.bytes += data.length;
            this.next(data, isBinary);
        });
        ws.on('pong', () => this.next(null));
        ws.on('error', () => this.next(null));
        this.over = new Promise((resolve) => {
            ws.on('close', (code, reason) => {
                this.ended = true;
                this.close = this.closes || { by: 'peer', code, reason: reason.toString() };
                // Codes that no frame carries: without a code, and without a close.
                if (!this.closes && code === 1005) this.close.code = null;
                if (code === 1006) this.close = null;
                this.next(null);
                resolve();
            });
        });
    }

    next(data, isBinary) {
        const waiter = this.waiting.shift();
        if (waiter) waiter(data);
        else if (data !== null && this.answer) this.answer(data, isBinary);
    }

    await() {
        return this.ended ? Promise.resolve() : new Promise((done) => this.waiting.push(done));
    }

    send(data, fin = true, isFirst = true) {
        if (isFirst) this.sent[typeof data === 'string' ? 'text' : 'binary'] += 1;
        this.sent.bytes += Buffer.byteLength(data);
        this.sent.frames += 1;
        this.ws.send(data, { fin });
    }

    fragments(count, size) {
        for (let n = 1; n <= count; n++) this.send(crypto.randomBytes(size), n === count, n === 1);
    }

    ping() {
        this.sent.pings += 1;
        this.ws.ping('p');
    }

    end(code, reason) {
        this.closes = { by: 'self', code: code || null, reason: reason || '' };
        if (code) this.ws.close(code, reason);
        else this.ws.close();
    }

    say() {
        const { target, deflate, sent, got, close } = this;
        say({ role, target, deflate, sent, got, close, subprotocol: this.ws.protocol });
    }
}

function answer(talk, data, isBinary) {
    const [command, what, one, two] = isBinary ? [] : data.toString().split(':');
    if (command !== 'do') talk.send(isBinary ? data : data.toString());
    else if (what === 'close') talk.end(Number(one), two);
    else if (what === 'fragments') talk.fragments(Number(one), Number(two));
    else if (what === 'abort') talk.ws.terminate();
    else if (what === 'ping') {
        talk.ping();
        talk.await().then(() => talk.send('pinged'));
    }
}

function serveTalk(ws, target, deflate) {
    const talk = new Talk(ws, target, deflate);
    talk.answer = (data, isBinary) => answer(talk, data, isBinary);
    talk.over.then(() => talk.say());
}

// A WebSocket in the stream of an extended CONNECT (RFC 8441).
function inStream(stream, isServer) {
    const ws = new WebSocket(null, undefined, { autoPong: true, maxPendingAutoPongs: 60, closeTimeout: 30000 });
    ws._isServer = isServer;
    stream.setNoDelay = () => {};
    ws.setSocket(stream, Buffer.alloc(0), { maxPayload: OPEN_MAX_BYTES, allowSynchronousEvents: true });
    return ws;
}

function serve(portHttp2) {
    const server = new WebSocket.WebSocketServer({
        host: address,
        port,
        perMessageDeflate: true,
        maxPayload: OPEN_MAX_BYTES,
        verifyClient: (info) => !info.req.url.includes('/refused'),
        handleProtocols: (offered) => [...offered].pop() || false,
    });
    server.on('connection', (ws, req) => serveTalk(ws, req.url, ws.extensions !== ''));
    const streams = http2.createServer({ settings: { enableConnectProtocol: true } });
    streams.on('stream', (stream, headers) => {
        if (headers[':protocol'] !== 'websocket') {
            stream.respond({ ':status': 200 }, { endStream: true });
            return;
        }
        if (headers[':path'].includes('/refused')) {
            stream.respond({ ':status': 403 }, { endStream: true });
            return;
        }
        stream.respond({ ':status': 200 });
        serveTalk(inStream(stream, true), headers[':path'], false);
    });
    streams.listen(portHttp2, address, () => say('ready'));
}

async function basic(talk) {
    for (const size of [0, 1, 125, 126, 3000]) {
        talk.send('t'.repeat(size));
        await talk.await();
    }
    for (const size of [0, 1000, 65535, 65536]) {
        talk.send(crypto.randomBytes(size));
        await talk.await();
    }
    for (let n = 0; n < 3; n++) {
        talk.ping();
        await talk.await();
    }
    talk.end(1000, 'bye');
}

async function fragments(talk) {
    talk.fragments(5, 400);
    await talk.await();
    talk.send('do:fragments:4:5000');
    await talk.await();
    talk.send('do:ping');
    await talk.await();
    talk.send('do:close:4001:enough "of" this é');
}

async function big(talk) {
    talk.send(crypto.randomBytes(1 << 20));
    await talk.await();
    talk.end();
}

async function abort(talk) {
    talk.send('before');
    await talk.await();
    talk.send('do:abort');
}

const SCENARIOS = { basic, fragments, big, abort };

function connect(target, deflate) {
    const options = { perMessageDeflate: deflate, maxPayload: OPEN_MAX_BYTES };
    const ws = new WebSocket(`ws://${address}:${port}${target}`, ['chat.v1', 'chat.v2'], options);
    return new Promise((resolve, reject) => {
        ws.on('error', reject);
        ws.on('open', () => resolve(new Talk(ws, target, ws.extensions !== '')));
    });
}

async function connectHttp2(session, target) {
    const stream = session.request(
        { ':method': 'CONNECT', ':protocol': 'websocket', ':path': target, ':scheme': 'http', ':authority': address },
        { endStream: false },
    );
    const headers = await new Promise((resolve, reject) => {
        stream.on('response', resolve);
        stream.on('error', reject);
    });
    if (headers[':status'] !== 200) {
        stream.close();
        throw new Error('refused');
    }
    return new Talk(inStream(stream, false), target, false);
}

async function drive() {
    let session;
    if (kind === 'http2') {
        session = http2.connect(`http://${address}:${port}`);
        await new Promise((resolve) => session.once('remoteSettings', resolve));
    }
    for (const deflate of session ? [false] : [false, true]) {
        for (const [scenario, play] of Object.entries(SCENARIOS)) {
            const target = `/${name}/${scenario}/${deflate ? 'deflate' : 'plain'}`;
            const talk = session ? await connectHttp2(session, target) : await connect(target, deflate);
            await play(talk);
            await talk.over;
            talk.say();
        }
    }
    const target = `/${name}/refused`;
    const refused = session ? connectHttp2(session, target) : connect(target, false);
    await refused.then(() => process.exit(1), () => {});
    if (session) session.close();
}

if (role === 'serve') serve(name);
else drive();
