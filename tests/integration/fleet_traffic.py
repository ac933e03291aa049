"""Servers and clients for fleet.py. Each exchange has a number of its own, which is in its target.

fleet_traffic.py serve ADDRESS
fleet_traffic.py drive ADDRESS...     until SIGTERM; prints each exchange as a line of JSON

The target says what the server does with a request: /short/NUMBER, /long/NUMBER, /marked/NUMBER."""

import asyncio
import itertools
import json
import random
import signal
import socket
import sys
import time

PORT = 8080
# The middle of a marked body is one packet with this value of IP's field TOS.
MARK, MARKED_BYTES = 0x20, 1000
LONG_PARTS, LONG_PART_BYTES, LONG_PAUSE_S = 10, 300, 0.3
# Two packets that are sent so far apart are not joined.
APART_S = 0.01
# Workers for each server. The connections of the first ones stay open for the whole run.
KEPT, SHORT_LIVED, LONG = 5, 6, 2
# Twice in a request it makes a line that is longer than the 8 KiB at which rsyslog cuts by default.
LONG_TEXT = "y" * 7000


async def answer(writer, kind, number):
    if kind == "short":
        size = number % 900
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n"
        writer.write(head.encode() + b"s" * size)
    elif kind == "long":
        size = LONG_PARTS * LONG_PART_BYTES
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n".encode())
        for _ in range(LONG_PARTS):
            await asyncio.sleep(LONG_PAUSE_S)
            writer.write(b"l" * LONG_PART_BYTES)
    else:
        end = writer.get_extra_info("socket")
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {MARKED_BYTES + 500}\r\n\r\n"
        for tos, data in ((0, head.encode()), (MARK, b"m" * MARKED_BYTES), (0, b"e" * 500)):
            end.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, tos)
            writer.write(data)
            await asyncio.sleep(APART_S)
    await writer.drain()


async def handle(reader, writer):
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            for line in head[1:]:
                if line.startswith("Content-Length: "):
                    await reader.readexactly(int(line.split()[1]))
            _, kind, number = head[0].split()[1].split("?")[0].split("/")
            await answer(writer, kind, int(number))
    except asyncio.IncompleteReadError:
        writer.close()


async def serve(address):
    server = await asyncio.start_server(handle, address, PORT, backlog=1024)
    print("listening", flush=True)
    await server.serve_forever()


class Driver:
    def __init__(self, seed):
        self.numbers = itertools.count(1)
        self.random = random.Random(seed)
        self.is_over = False

    async def exchange(self, connection, kind):
        reader, writer, told = connection
        number = next(self.numbers)
        if kind == "short" and number % 23 == 0:
            kind = "marked"
        method = "POST" if number % 11 == 0 else "GET"
        body = b"b" * (number % 50) if method == "POST" else b""
        text = LONG_TEXT if number % 501 == 0 else "fleet"
        lines = [f"{method} /{kind}/{number}?q={text} HTTP/1.1", "Host: fleet.example"]
        lines += [f"User-Agent: {text}"]
        lines += [f"Content-Length: {len(body)}"] if body else []
        begun = time.time_ns()
        writer.write("\r\n".join(lines + ["", ""]).encode() + body)
        head = await reader.readuntil(b"\r\n\r\n")
        size = int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0])
        await reader.readexactly(size)
        ended = time.time_ns()
        print(json.dumps({"number": number, "kind": kind, "method": method, "sent": len(body),
                          "size": size, "begun": begun, "ended": ended, **told}), flush=True)

    async def connect(self, address):
        opening = time.time_ns()
        reader, writer = await asyncio.open_connection(address, PORT)
        told = {"server": address, "port": writer.get_extra_info("sockname")[1],
                "opening": opening, "opened": time.time_ns()}
        return reader, writer, told

    async def work(self, address, kind, exchanges_max):
        """One connection after the other. The last exchange ends before its connection."""
        while not self.is_over:
            connection = await self.connect(address)
            for _ in range(self.random.randint(1, exchanges_max)):
                await asyncio.sleep(self.random.uniform(0.02, 0.2))
                if self.is_over:
                    break
                await self.exchange(connection, kind)
            connection[1].close()
            await connection[1].wait_closed()

    def end(self):
        self.is_over = True


async def drive(addresses):
    driver = Driver(seed=25)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, driver.end)
    forever = 1 << 62
    work = []
    for address in addresses:
        # A random number of exchanges up to this one, so of the kept ones too many to be reached.
        work += [driver.work(address, "short", forever) for _ in range(KEPT)]
        work += [driver.work(address, "short", 8) for _ in range(SHORT_LIVED)]
        work += [driver.work(address, "long", 2) for _ in range(LONG)]
    await asyncio.gather(*work)


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[2]) if sys.argv[1] == "serve" else drive(sys.argv[2:]))
