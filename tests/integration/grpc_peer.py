"""A server and a client of gRPC, which log each call as a line of JSON.

grpc_peer.py serve ADDRESS:PORT
grpc_peer.py drive ADDRESS:PORT

The name of a method says what the server does with a call: /it.Test/KIND-NUMBER. Messages are bytes."""

import itertools
import json
import sys
import threading
import time
from concurrent import futures

import grpc

OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
DETAILS = 'no such "thing" é, 100%\nfor sure'
lock = threading.Lock()


def log(**call):
    with lock:
        print(json.dumps(call), flush=True)


class Served:
    """A call at the server: counts its requests, and knows when it is over."""

    def __init__(self, context):
        self.got = 0
        self.is_over = threading.Event()
        context.add_callback(self.is_over.set)

    def count(self, requests):
        for request in requests:
            self.got += 1
            yield request


class Handler(grpc.GenericRpcHandler):
    def service(self, details):
        kind = details.method.split("/")[-1].split("-")[0]
        if kind == "missing":
            return None

        def handle(requests, context):
            call = Served(context)
            try:
                yield from answer(kind, call, call.count(requests), context)
            finally:
                log(target=details.method, got=call.got)

        return grpc.stream_stream_rpc_method_handler(handle)


def answer(kind, call, requests, context):
    if kind == "meta":
        context.send_initial_metadata((("x-initial", "1"),))
        context.set_trailing_metadata((("x-trailing", "a, b"), ("x-bytes-bin", b"\0\xff")))
    if kind in ("unary", "meta", "gzip", "big"):
        yield next(requests)
        list(requests)
    elif kind == "nothing":
        list(requests)
    elif kind == "server":
        first = next(requests)
        for size in range(int(first)):
            yield b"x" * (size * 100)
    elif kind == "client":
        yield str(sum(len(request) for request in requests)).encode()
    elif kind == "both":
        for request in requests:
            yield request
    elif kind == "abort":
        list(requests)
        context.abort(grpc.StatusCode.NOT_FOUND, DETAILS)
    elif kind == "late":
        yield b"one"
        yield b"two"
        context.abort(grpc.StatusCode.DATA_LOSS, "away")
    elif kind == "early":
        # While the client goes on.
        next(requests)
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "enough")
    elif kind == "raise":
        list(requests)
        raise ValueError("as it should")
    elif kind in ("deadline", "cancel"):
        yield b"one"
        call.is_over.wait(20)


def serve(address):
    server = grpc.server(futures.ThreadPoolExecutor(32), handlers=[Handler()], options=OPTIONS)
    if server.add_insecure_port(address) == 0:
        sys.exit(f"cannot listen on {address}")
    server.start()
    server.wait_for_termination()


numbers = itertools.count()


def call(channel, kind, requests, timeout=20, compression=None, act=None, metadata=None):
    """Makes a call with these requests, and logs it. `act` is done after the first response."""
    target = f"/it.Test/{kind}-{next(numbers)}"
    sent = got = 0

    def counted():
        nonlocal sent
        for request in requests:
            sent += 1
            yield request

    method = channel.stream_stream(target)
    responses = method(counted(), timeout=timeout, compression=compression, metadata=metadata)
    try:
        for _ in responses:
            got += 1
            if act and got == 1:
                act(responses)
    except grpc.RpcError:
        pass
    code = responses.code()
    trailing = {key: str(value) for key, value in responses.trailing_metadata() or ()}
    log(
        target=target,
        kind=kind,
        code=code.value[0],
        details=responses.details() or "",
        sent=sent,
        got=got,
        trailing=trailing.get("x-trailing"),
    )


def endless():
    """Requests until the call is over."""
    while True:
        yield b"more"
        time.sleep(0.01)


def held(event):
    """A request, and no end of them before the event."""
    yield b"one"
    event.wait(20)


def drive(address):
    with grpc.insecure_channel(address, options=OPTIONS) as channel:
        grpc.channel_ready_future(channel).result(20)
        for size in (0, 1, 100, 5000):
            call(channel, "unary", [b"x" * size])
        call(channel, "nothing", [])
        call(channel, "nothing", [b"", b""])
        for count in (0, 1, 50):
            call(channel, "server", [str(count).encode()])
            call(channel, "client", [b"y" * size for size in range(count)])
            call(channel, "both", [b"z" * (7 * size) for size in range(count)])
        call(channel, "big", [b"x" * 3_000_000])
        for kind in ("abort", "raise", "missing"):
            call(channel, kind, [b"x"])
        call(channel, "late", [b"x"])
        call(channel, "early", endless())
        call(channel, "meta", [b"x"], metadata=(("x-own", "1"), ("authorization", "Bearer s")))
        call(channel, "gzip", [b"x" * 10_000], compression=grpc.Compression.Gzip)
        for _ in range(3):
            done = threading.Event()
            call(channel, "deadline", held(done), timeout=0.3)
            done.set()
            done = threading.Event()
            call(channel, "cancel", held(done), act=lambda responses: responses.cancel())
            done.set()
        with futures.ThreadPoolExecutor(8) as pool:
            for _ in pool.map(lambda at: call(channel, "unary", [b"x" * at]), range(400)):
                pass


if __name__ == "__main__":
    {"serve": serve, "drive": drive}[sys.argv[1]](sys.argv[2])
