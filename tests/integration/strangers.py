"""Connections of other protocols that are open before the capture begins, in segments of
Ethernet's size: Redis, MariaDB, Kafka, TLS, random bytes behind a zero, and numbers behind a size.
None is called HTTP/2, and nearly no segment passes the filter: random bytes may look like the first
line of a request, and numbers like frames."""

import os
import pathlib
import random
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading

import lab

# Of each protocol, at least so many bytes.
BYTES = int(os.environ.get("BYTES", 32 << 20))
SEED = 7


class Pipe:
    """A connection over loopback, whose ends are two threads."""

    def __init__(self, wrap_server=lambda it: it, wrap_client=lambda it: it):
        listener = socket.create_server(("127.0.0.1", 0))
        client = socket.create_connection(listener.getsockname())
        server = listener.accept()[0]
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        wrapped = []
        shaking = threading.Thread(target=lambda: wrapped.append(wrap_server(server)))
        shaking.start()
        self.client = wrap_client(client)
        shaking.join()
        self.server = wrapped[0]

    def talk(self, message):
        """Sends `message()` again and again, in turn from both ends."""
        sent = 0
        while sent < BYTES:
            for one, other in ((self.client, self.server), (self.server, self.client)):
                piece = message()
                reader = threading.Thread(target=read_exactly, args=(other, len(piece)))
                reader.start()
                one.sendall(piece)
                reader.join()
                sent += len(piece)


def read_exactly(connection, size):
    while size > 0:
        size -= len(connection.recv(min(size, 1 << 20)))


def content(numbers, size):
    """What applications store: numbers of many sizes and orders, zeros, text."""
    kind = numbers.randrange(4)
    if kind == 0:
        return numbers.randbytes(size)
    if kind == 1:
        return bytes(size)
    if kind == 2:
        return b"".join(numbers.randrange(70_000).to_bytes(4, "big") for _ in range(size // 4 + 1))[
            :size
        ]
    return b"".join(numbers.randrange(70_000).to_bytes(4, "little") for _ in range(size // 4 + 1))[
        :size
    ]


class Random:
    def start(self, room):
        self.pipe = Pipe()

    def run(self):
        numbers = random.Random(SEED)
        sizes = (15, 40, 200, 1447, 9000, 60_000)
        self.pipe.talk(lambda: b"\0" + numbers.randbytes(numbers.choice(sizes)))


class Numbers:
    """Messages behind a size of four bytes, as many protocols have them."""

    def start(self, room):
        self.pipe = Pipe()

    def run(self):
        numbers = random.Random(SEED)

        def message():
            size = numbers.choice((5, 9, 22, 257, 513, 1027, 1032, 2054, 1540, 1281, 20_000))
            return size.to_bytes(4, "big") + content(numbers, size)

        self.pipe.talk(message)


class Tls:
    def start(self, room):
        key, certificate = room / "key.pem", room / "certificate.pem"
        subprocess.run(
            f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes "
            f"-keyout {key} -out {certificate} -subj /CN=localhost -days 2".split(),
            check=True,
            capture_output=True,
        )
        of_server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        of_server.load_cert_chain(certificate, key)
        of_client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        of_client.load_verify_locations(certificate)
        self.pipe = Pipe(
            lambda it: of_server.wrap_socket(it, server_side=True),
            lambda it: of_client.wrap_socket(it, server_hostname="localhost"),
        )

    def run(self):
        numbers = random.Random(SEED)
        self.pipe.talk(lambda: content(numbers, numbers.choice((10, 300, 1400, 16_384, 100_000))))


class Redis:
    def start(self, room):
        command = f"redis-server --port 6379 --bind 127.0.0.1 --dir {room}".split() + ["--save", ""]
        self.server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        lab.await_that("Redis answers", self.is_there, ended=[self.server])

    def is_there(self):
        try:
            self.connection = socket.create_connection(("127.0.0.1", 6379))
        except ConnectionRefusedError:
            return False
        self.file = self.connection.makefile("rb")
        return self.call(b"PING") == b"+PONG\r\n"

    def call(self, *words):
        parts = [b"*%d\r\n" % len(words)]
        parts += [b"$%d\r\n%s\r\n" % (len(word), word) for word in words]
        self.connection.sendall(b"".join(parts))
        answer = self.file.readline()
        if answer.startswith(b"$") and not answer.startswith(b"$-"):
            return self.file.read(int(answer[1:]) + 2)
        return answer

    def run(self):
        numbers, sent = random.Random(SEED), 0
        while sent < BYTES:
            value = content(numbers, numbers.choice((3, 100, 1400, 5000, 100_000)))
            self.call(b"SET", b"key%d" % numbers.randrange(100), value)
            self.call(b"GET", b"key%d" % numbers.randrange(100))
            sent += 2 * len(value)


class MariaDb:
    def start(self, room):
        data, path = room / "mariadb", room / "mariadb.sock"
        install = (
            f"mariadb-install-db --no-defaults --user=root --datadir={data} "
            "--auth-root-authentication-method=normal"
        )
        subprocess.run(install.split(), check=True, capture_output=True)
        serve = (
            f"mariadbd --no-defaults --user=root --datadir={data} --socket={path} --port=3306 "
            "--bind-address=127.0.0.1 --skip-grant-tables --max-allowed-packet=64M"
        )
        self.server = subprocess.Popen(
            serve.split(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        lab.await_that("MariaDB listens", lambda: is_open(3306), ended=[self.server])
        query = (
            "mariadb --no-defaults --host=127.0.0.1 --protocol=tcp --unbuffered --batch --quick "
            "--max-allowed-packet=64M"
        )
        self.client = subprocess.Popen(
            query.split(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        self.ask("SELECT 'ready'")

    def ask(self, statement):
        self.client.stdin.write(f"{statement}; SELECT 'the end' AS e;\n".encode())
        seen = b""
        while b"\ne\nthe end\n" not in b"\n" + seen:
            piece = self.client.stdout.read(1 << 20)
            if not piece:
                lab.fail("MariaDB's client has ended")
            seen = seen[-20:] + piece

    def run(self):
        numbers, asked = random.Random(SEED), 0
        while asked < BYTES:
            size = numbers.choice((1, 252, 508, 764, 1020, 4000, 60_000))
            rows = numbers.choice((1, 10, 200))
            column = numbers.choice(
                (
                    f"RANDOM_BYTES(LEAST({size}, 1024))",
                    f"REPEAT(x'00', {size})",
                    f"REPEAT('a', {size})",
                    "seq",
                )
            )
            self.ask(f"SELECT {column} FROM test.seq_1_to_{rows}")
            self.ask(f"SELECT LENGTH('{'b' * size}')")
            asked += size * rows


class Kafka:
    """The mock cluster of librdkafka, which speaks the protocol of brokers, and its clients."""

    def start(self, room):
        from confluent_kafka import Consumer, Producer, TopicPartition

        self.mock = Producer({"bootstrap.servers": "unused", "test.mock.num.brokers": 1})
        brokers = self.mock.list_topics(timeout=10).brokers.values()
        address = ",".join(f"{broker.host}:{broker.port}" for broker in brokers)
        self.producer = Producer({"bootstrap.servers": address, "linger.ms": 1})
        self.consumer = Consumer(
            {"bootstrap.servers": address, "group.id": "a", "fetch.wait.max.ms": 20}
        )
        self.send(b"first")
        self.consumer.list_topics("http", timeout=10)
        self.consumer.assign([TopicPartition("http", number, 0) for number in range(4)])
        lab.await_that("Kafka brings a message", lambda: self.consumer.poll(1) is not None)

    def send(self, value):
        self.producer.produce("http", value)
        self.producer.flush(10)

    def run(self):
        numbers, sent = random.Random(SEED), 0
        while sent < BYTES:
            value = content(numbers, numbers.choice((1, 100, 900, 970, 2000, 50_000)))
            for _ in range(numbers.choice((1, 1, 20))):
                self.producer.produce("http", value)
                sent += len(value)
            self.producer.flush(10)
            while self.consumer.poll(0) is not None:
                pass


def is_open(port):
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return False
    return True


PROTOCOLS = {
    "random": Random,
    "numbers": Numbers,
    "tls": Tls,
    "redis": Redis,
    "mariadb": MariaDb,
    "kafka": Kafka,
}


def inside(name, room):
    """In the namespace: opens the connections, says so, and uses them once it is told to."""
    protocol = PROTOCOLS[name]()
    protocol.start(pathlib.Path(room))
    print("open", flush=True)
    sys.stdin.readline()
    protocol.run()
    print("done", flush=True)
    sys.stdin.readline()
    for child in (getattr(protocol, "client", None), getattr(protocol, "server", None)):
        if isinstance(child, subprocess.Popen):
            child.kill()
            child.wait()


def count(totals, pattern):
    """The number in the totals; 0 if there is none."""
    found = re.search(pattern, totals)
    return int(found[1]) if found else 0


def main():
    it = lab.Lab()
    it.ip(f"-n {it.server} link set lo up mtu 1500")
    subprocess.run(
        f"ip netns exec {it.server} ethtool -K lo tso off gso off gro off".split(),
        check=True,
        capture_output=True,
    )
    for name in sys.argv[1:] or PROTOCOLS:
        room = it.folder / name
        room.mkdir()
        process = subprocess.Popen(
            ["ip", "netns", "exec", it.server, sys.executable, __file__, "inside", name, str(room)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        it.processes.append(process)
        if process.stdout.readline() != "open\n":
            lab.fail(f"{name} does not begin")
        (it.folder / "httplines.err").write_text("")
        httplines = it.start_httplines(["-i", "lo", "-o", it.folder / "lines"])
        process.stdin.write("go\n")
        process.stdin.flush()
        if process.stdout.readline() != "done\n":
            lab.fail(f"{name} does not end")
        totals = it.stop_httplines(httplines)
        process.stdin.close()
        process.wait()
        offered = count(totals, r"offered +(\d+)")
        looked_at = sum(count(totals, rf"\b(\d+) {of}\b") for of in ("tls", "other"))
        admitted = count(totals, r"\b(\d+) admitted\b")
        if looked_at < 1000 or admitted > looked_at // 1000 or "HTTP/2" in totals:
            lab.fail(f"{name}: {admitted} connections began in {looked_at} segments:\n{totals}")
        lab.say(
            f"    {name}: {admitted} of {looked_at} segments seemed to begin a message, "
            f"of {offered} frames"
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["inside"]:
        inside(*sys.argv[2:])
    else:
        main()
