"""Both ends of WebSocket, with the package `websockets`, for websocket.py. Each prints a line of
JSON for every talk it had.
    websocket_peer.py serve ADDRESS PORT
    websocket_peer.py drive ADDRESS PORT NAME"""

import asyncio
import json
import os
import signal
import socket
import struct
import sys

import websockets
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve

BYTES_MAX = 1 << 26


def say(told):
    print(json.dumps(told), flush=True)


class Talk:
    """What one side of a talk has sent and got."""

    def __init__(self, role, ws):
        self.role, self.ws = role, ws
        self.sent = {"text": 0, "binary": 0, "bytes": 0, "frames": 0, "pings": 0}
        self.got = {"text": 0, "binary": 0, "bytes": 0}

    async def send(self, data):
        self.sent["text" if isinstance(data, str) else "binary"] += 1
        self.sent["bytes"] += len(data.encode() if isinstance(data, str) else data)
        self.sent["frames"] += 1
        await self.ws.send(data)

    async def fragments(self, count, size):
        pieces = [os.urandom(size) for _ in range(count)]
        self.sent["binary"] += 1
        self.sent["bytes"] += count * size
        # An empty frame ends the message.
        self.sent["frames"] += count + 1
        await self.ws.send(pieces)

    async def recv(self):
        data = await self.ws.recv()
        self.got["text" if isinstance(data, str) else "binary"] += 1
        self.got["bytes"] += len(data.encode() if isinstance(data, str) else data)
        return data

    async def ping(self):
        self.sent["pings"] += 1
        await (await self.ws.ping("p"))

    def say(self):
        protocol = self.ws.protocol
        received, sent = protocol.close_rcvd, protocol.close_sent
        close = None
        if received is not None and sent is not None:
            is_by_peer = protocol.close_rcvd_then_sent
            first = received if is_by_peer else sent
            code = None if first.code == 1005 else first.code
            close = {"by": "peer" if is_by_peer else "self", "code": code, "reason": first.reason}
        say(
            {
                "role": self.role,
                "target": self.ws.request.path,
                "deflate": bool(protocol.extensions),
                "sent": self.sent,
                "got": self.got,
                "close": close,
                "subprotocol": self.ws.subprotocol or "",
            }
        )


async def answer(talk, data):
    words = data.split(":") if isinstance(data, str) else [""]
    if words[0] != "do":
        await talk.send(data)
    elif words[1] == "close":
        await talk.ws.close(int(words[2]), words[3])
    elif words[1] == "fragments":
        await talk.fragments(int(words[2]), int(words[3]))
    elif words[1] == "abort":
        talk.ws.transport.abort()
    elif words[1] == "ping":
        await talk.ping()
        await talk.send("pinged")


async def serve_talk(ws):
    talk = Talk("serve", ws)
    try:
        while True:
            await answer(talk, await talk.recv())
    except websockets.ConnectionClosed:
        pass
    talk.say()


def refuse(connection, request):
    if "/refused" in request.path:
        return connection.respond(404, "refused\n")
    return None


async def run_server(address, port):
    server = serve(
        serve_talk,
        address,
        port,
        process_request=refuse,
        subprotocols=["chat.v1", "chat.v2"],
        max_size=BYTES_MAX,
        ping_interval=None,
    )
    async with server:
        say("ready")
        await asyncio.Future()


async def basic(talk):
    for size in (0, 1, 125, 126, 3000):
        await talk.send("t" * size)
        await talk.recv()
    for size in (0, 1000, 65535, 65536):
        await talk.send(os.urandom(size))
        await talk.recv()
    for _ in range(3):
        await talk.ping()
    await talk.ws.close(1000, "bye")


async def fragments(talk):
    await talk.fragments(5, 400)
    await talk.recv()
    await talk.send("do:fragments:4:5000")
    await talk.recv()
    await talk.send("do:ping")
    await talk.recv()
    await talk.send('do:close:4001:enough "of" this é')
    await talk.ws.wait_closed()


async def big(talk):
    await talk.send(os.urandom(1 << 20))
    await talk.recv()
    await talk.ws.close(1001)


async def abort(talk):
    await talk.send("before")
    await talk.recv()
    await talk.send("do:abort")
    await talk.ws.wait_closed()


async def reset(talk):
    await talk.send("before")
    await talk.recv()
    linger = struct.pack("ii", 1, 0)
    sock = talk.ws.transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    talk.ws.transport.abort()
    await talk.ws.wait_closed()


async def kill(talk):
    await talk.send("before")
    await talk.recv()
    talk.say()
    os.kill(os.getpid(), signal.SIGKILL)


async def run_client(address, port, name):
    at = f"ws://{address}:{port}/{name}"
    common = {
        "max_size": BYTES_MAX,
        "ping_interval": None,
        "subprotocols": ["chat.v2", "chat.v1"],
        "proxy": None,
    }
    for compression in (None, "deflate"):
        for play in (basic, fragments, big, abort, reset):
            target = f"{at}/{play.__name__}/{compression or 'plain'}"
            async with connect(target, compression=compression, **common) as ws:
                talk = Talk("drive", ws)
                await play(talk)
            talk.say()
    try:
        async with connect(f"{at}/refused", **common):
            sys.exit(1)
    except websockets.InvalidStatus:
        pass
    # The last one: nothing of this process is left.
    async with connect(f"{at}/kill/plain", compression=None, **common) as ws:
        await kill(Talk("drive", ws))


def main():
    role, address, port, *name = sys.argv[1:]
    run = run_server(address, int(port)) if role == "serve" else run_client(address, port, *name)
    asyncio.run(run)


main()
