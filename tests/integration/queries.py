"""The tables in docs/schema/ and the queries on docs/queries.md, word by word, on records of packets
that are known. Two sensors see the same connections, and each of them loses some of the packets;
long exchanges have partial records. ClickHouse, DuckDB and jq must give the same answers, and these
must be those that follow from what was sent."""

import base64
import collections
import datetime
import hashlib
import json
import os
import pathlib
import re
import statistics
import subprocess

import chdb.session
import duckdb
import lab
import packets

SECOND, MS = 1_000_000_000, 1_000_000
# With nine digits that differ, so that none can be missing.
BEGAN = int(datetime.datetime(2026, 11, 23, 14, tzinfo=datetime.UTC).timestamp()) * SECOND
BEGAN += 123_456_789
DOCS = lab.ROOT / "docs"
SENSORS = ("edge-1", "edge-2")
WEBSOCKET_KEY = "dGhlIHNhbXBsZSBub25jZQ=="


class Traffic:
    """What is sent, and what that means for the questions: each exchange by its names and times."""

    def __init__(self):
        self.capture = packets.Capture()
        self.exchanges, self.talks, self.tls_connections = [], [], []
        self.port = 20_000

    def connect(self, client, server, at, connect_ns=100_000):
        self.port += 1
        self.connect_ns = connect_ns
        return packets.Connection(self.capture, (client, self.port), server, at, connect_ns)

    def exchange(self, connection, host, method, target, at, ttfb_ns, status=200, size=0,
                 response_ns=0, body=b""):
        """A request in one segment `at` that moment, and its answer, whose body has `size` bytes."""
        lines = [f"{method} {target} HTTP/1.1"] + ([f"Host: {host}"] if host else [])
        lines += [f"Content-Length: {len(body)}"] if body else []
        connection.send(0, "\r\n".join(lines + ["", ""]).encode() + body, at)
        told = dict(host=host, method=method, target=target, at=at, status=status, ttfb=ttfb_ns,
                    size=size, response_ns=response_ns, sent=len(body), connect=self.connect_ns,
                    ends=connection.ends, outcome="complete")
        self.connect_ns = None
        if status:
            begins = at + ttfb_ns
            head = f"HTTP/1.1 {status} Reason\r\nContent-Length: {size}\r\n\r\n".encode()
            connection.send(1, head + b"x" * size, begins, begins + response_ns)
        else:
            told.update(outcome="no_response", size=None, ttfb=None, response_ns=None)
        self.exchanges.append(told)
        return told

    def one(self, client, server, *arguments, **named):
        """A connection with one exchange. Returns the connection and what is told."""
        connection = self.connect(client, server, arguments[3] - MS)
        return connection, self.exchange(connection, *arguments, **named)

    def shop(self):
        """Endpoints with many exchanges over three minutes, on connections that are kept."""
        server = ("10.0.0.80", 80)
        counts = [("/search", 100), ("/cart", 40), ("/health", 19)]
        for path, count in counts:
            for number in range(count):
                at = BEGAN + number * 180 * SECOND // count + len(path) * 1_000_003
                if number % 10 == 0:
                    client = f"10.0.1.{1 + number // 10 % 2}"
                    connection = self.connect(client, server, at - MS, 50_000 + number)
                status = 503 if path == "/cart" and number % 8 == 7 else 200
                # In an order that is not that of the numbers, and with odd nanoseconds.
                ttfb = (number * 37 % count + 1) * MS // 2 + number
                query = f"?page={number}" if path == "/search" else ""
                self.exchange(connection, "shop.example", "GET", path + query, at, ttfb, status,
                              size=100 + number)

    def retries(self):
        client, server, host = "10.0.1.9", ("10.0.0.81", 80), "pay.example"
        at = BEGAN + 20 * SECOND
        # 503, again after 1 s: 503, again after 2 s: 200, and once more, which is no retry.
        for seconds, status in ((0, 503), (1, 503), (3, 200), (4, 200), (30, 429), (36, 200)):
            self.one(client, server, host, "POST", "/pay", at + seconds * SECOND, 3 * MS, status,
                     body=b"amount=1")
        # Another client's failure is none of this one's.
        self.one("10.0.1.8", server, host, "POST", "/pay", at + SECOND // 2, MS, 500, body=b"a=1")
        connection, told = self.one(client, server, host, "GET", "/rate", at, 0, None)
        connection.reset(1, at + 100 * MS)
        told["end"] = "rst"
        self.one(client, server, host, "GET", "/rate", at + 2 * SECOND, MS, 429)
        self.one(client, server, host, "GET", "/rate", at + 4 * SECOND, MS, 200)

    def downloads(self):
        client, server, host = "10.0.1.4", ("10.0.0.82", 8080), "files.example"
        at = BEGAN + 60 * SECOND
        # Inside, ::ffff: is none of an IPv4 address. Not at the beginning either, if more than one follows.
        for number, six in enumerate(["2001:db8::ffff:5", "::ffff:0:0:5"]):
            self.one(six, ("2001:db8::ffff:82", 80), "six.example", "GET", f"/{number}.iso", at,
                     MS, size=1_100_000 + number, response_ns=700 * MS)
        for number, (target, size, ns) in enumerate(
            [("/big.iso", 2_000_000, 2500 * MS), ("/mid.iso", 1_200_001, 400 * MS),
             ("/small", 999_999, 10 * MS)]
        ):
            self.one(client, server, host, "GET", target, at + number * 10 * SECOND, MS,
                     size=size, response_ns=ns)

    def unanswered(self):
        at = BEGAN + 70 * SECOND
        for number, end in enumerate(["fin", "fin", "rst", "exit", "fin", "rst"]):
            client, server = f"10.0.1.{20 + number // 2}", ("10.0.0.99", 8080)
            if number >= 4:
                client, server = "2001:db8::ffff:5", (f"2001:db8::ffff:{number}", 8080)
            when = at + number * SECOND
            connection, told = self.one(client, server, "dead.example", "GET", f"/{number}", when,
                                        0, None)
            told["end"] = end
            if end == "fin":
                connection.close(when + 10 * MS)
            if end == "rst":
                connection.reset(1, when + 10 * MS)

    def others(self):
        at = BEGAN + 80 * SECOND
        self.one("2001:db8::1", ("2001:db8::80", 80), "six.example", "GET", "/six", at, 5 * MS,
                 size=66)
        self.one("10.0.1.5", ("10.0.0.83", 80), None, "GET", "/no-host", at, 7 * MS, size=7)

    def grpc(self):
        """Calls of two methods; the client cancels the last one."""
        at = BEGAN + 90 * SECOND
        connection = self.connect("10.0.1.6", ("10.0.0.50", 50051), at - MS)
        preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + packets.http2_frame(4, 0, 0, b"")
        connection.send(0, preface, at - MS // 2)
        connection.send(1, packets.http2_frame(4, 0, 0, b""), at - MS // 4)
        calls = [("Add", 0)] * 5 + [("Add", 14)] + [("Get", 0)] * 3 + [("Get", None)]
        for number, (method, status) in enumerate(calls):
            stream, target, when = 1 + 2 * number, f"/shop.Cart/{method}", at + number * SECOND
            head = [(":method", "POST"), (":scheme", "http"), (":path", target),
                    (":authority", "cart.example"), ("content-type", "application/grpc+proto"),
                    ("te", "trailers")]
            request = packets.http2_headers(stream, head, False)
            request += packets.grpc_message(stream, b"a" * 20, True)
            connection.send(0, request, when)
            head = [(":status", "200"), ("content-type", "application/grpc+proto")]
            answer = packets.http2_headers(stream, head, False)
            count = 0 if status else 2
            for _ in range(count):
                answer += packets.grpc_message(stream, b"b" * 30, False)
            answered = when + 4 * MS + number * 1000
            ended = answered + MS
            connection.send(1, answer, answered)
            told = dict(host="cart.example", method="POST", target=target, at=when, status=200,
                        ttfb=answered - when, response_ns=MS, sent=25, size=35 * count,
                        connect=self.connect_ns, ends=connection.ends, outcome="complete",
                        grpc=(status, 1, count), duration=ended - when)
            self.connect_ns = None
            if status is None:
                # CANCEL.
                reset = packets.http2_frame(3, 0, stream, (8).to_bytes(4, "big"))
                connection.send(0, reset, ended)
                told.update(outcome="truncated", end="reset", response_ns=None, duration=None)
            else:
                trailers = packets.http2_headers(stream, [("grpc-status", str(status))], True)
                connection.send(1, trailers, ended)
            self.exchanges.append(told)
        connection.close(at + 20 * SECOND)

    def websockets(self):
        for number, (client_count, server_count, closer) in enumerate([(3, 5, 0), (0, 2, 1)]):
            at = BEGAN + 110 * SECOND + number * 10 * SECOND
            client = ("10.0.1.60", "2001:db8::ffff:61")[number]
            server = (("10.0.0.60", "2001:db8::60")[number], 80)
            connection = self.connect(client, server, at - MS)
            lines = ["GET /ws HTTP/1.1", "Host: chat.example", "Connection: Upgrade",
                     "Upgrade: websocket", "Sec-WebSocket-Version: 13",
                     f"Sec-WebSocket-Key: {WEBSOCKET_KEY}", "", ""]
            connection.send(0, "\r\n".join(lines).encode(), at)
            accept = WEBSOCKET_KEY + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
            accept = base64.b64encode(hashlib.sha1(accept.encode()).digest()).decode()
            lines = ["HTTP/1.1 101 Switching", "Upgrade: websocket", "Connection: Upgrade",
                     f"Sec-WebSocket-Accept: {accept}", "", ""]
            opened = at + 2 * MS
            connection.send(1, "\r\n".join(lines).encode(), opened)
            self.exchanges.append(
                dict(host="chat.example", method="GET", target="/ws", at=at, status=101,
                     ttfb=2 * MS, response_ns=0, sent=0, size=0, connect=self.connect_ns,
                     ends=connection.ends, outcome="complete")
            )
            when = opened
            for side, count in ((0, client_count), (1, server_count)):
                for _ in range(count):
                    when += 700 * MS
                    connection.send(side, packets.websocket_frame(1, b"word", side == 0), when)
            code = 1000 + number
            for side in (closer, 1 - closer):
                when += MS
                close = packets.websocket_frame(8, code.to_bytes(2, "big"), side == 0)
                connection.send(side, close, when)
            connection.close(when + MS)
            self.talks.append(
                dict(client=client, seconds=(when - opened) / SECOND, sides=(client_count,
                     server_count), close=(("client", "server")[closer], code), at=opened)
            )

    def tls(self):
        """An old version, a certificate that ends soon, and two that are as they should be; one
        handshake is refused."""
        at = BEGAN + 140 * SECOND
        for number, (name, server, version, not_after, is_refused) in enumerate(
            [("old.example", "10.0.0.70", 0x301, "301224000000Z", False),
             ("old.example", "10.0.0.70", 0x301, "301224000000Z", False),
             ("old.example", "10.0.0.70", 0x301, "301224000000Z", True),
             ("soon.example", "2001:db8::71", 0x303, "261220000000Z", False),
             ("later.example", "10.0.0.72", 0x303, "261224000000Z", False),
             ("later.example", "10.0.0.72", 0x303, "261224000000Z", True)]
        ):
            client = ("10.0.1.70", "2001:db8::ffff:70")[":" in server]
            when = at + number * SECOND
            connection = self.connect(client, (server, 8443), when - MS)
            # No exchange of HTTP has this connection.
            self.connect_ns = None
            connection.send(0, packets.tls_client_hello(name), when)
            answer = packets.tls_server_hello(version) + packets.tls_certificate(name, not_after)
            connection.send(1, answer + packets.tls_message(14, b""), when + MS)
            finished = packets.tls_record(20, b"\1") + packets.tls_record(22, bytes(40))
            if is_refused:
                connection.send(0, packets.tls_record(21, b"\2\x30"), when + 2 * MS)
            else:
                connection.send(0, finished, when + 2 * MS)
                connection.send(1, finished, when + 3 * MS)
            connection.close(when + 4 * MS)
            date = f"20{not_after[:2]}-{not_after[2:4]}-{not_after[4:6]}T00:00:00Z"
            self.tls_connections.append(dict(
                name=name, server=server, version={0x301: "1.0", 0x303: "1.2"}[version],
                not_after=date, is_complete=not is_refused))

    @classmethod
    def of_a_day(cls):
        it = cls()
        for part in (it.shop, it.retries, it.downloads, it.unanswered, it.others, it.grpc,
                     it.websockets, it.tls):
            part()
        return it


def write_records(traffic, folder):
    """The records of both sensors. The first one loses a part of a download, and the second one a
    part of another and one answer as a whole."""
    files = [told["ends"][1] for told in traffic.exchanges if told["host"] == "files.example"]
    late = next(told for told in traffic.exchanges if told["target"] == "/six")
    ports = [told["ends"][0][1] for told in traffic.exchanges if told["host"] == "files.example"]
    lost = {
        SENSORS[0]: lambda frame: is_part(frame, ports[1]),
        SENSORS[1]: lambda frame: is_part(frame, ports[0])
        or (frame["from"] == late["ends"][1] and frame["payload"]),
    }

    def is_part(frame, port):
        to = int.from_bytes(frame["bytes"][36:38], "big")
        return frame["from"] == files[0] and to == port and 100 <= frame["nth"] < 110

    for sensor in SENSORS:
        path = folder / f"{sensor}.pcap"
        traffic.capture.write(path, lambda frame: not lost[sensor](frame))
        lines = folder / f"http-{sensor}.jsonl"
        program = os.environ.get("HTTPLINES", lab.ROOT / "target/release/httplines")
        subprocess.run(
            [program, "-q", "-r", path, "-o", lines, "--sensor", sensor, "--community-id",
             "--records", "http,websocket,tls", "--active-timeout", "1", "--all-headers"],
            check=True,
        )
    return [json.loads(line) for path in sorted(folder.glob("http-*.jsonl"))
            for line in path.read_text().splitlines()]


def write_statistics(wire):
    """The statistics of two live captures, one of which has lost things. (Nothing is lost on an idle
    wire, so what it has lost is put into its lines.)"""
    expected = []
    for sensor in SENSORS:
        output = wire.folder / f"http-{sensor}.stats.jsonl"
        capture = wire.start_httplines(["-o", output, "--sensor", sensor, "-B", "4096"])
        wire.stop_httplines(capture)
        (wire.folder / "httplines.err").unlink()
        path = output.with_suffix(".stats")
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        output.unlink()
        figures = [0, 0, 0, 0]
        if sensor == SENSORS[1]:
            for number, line in enumerate(lines, start=1):
                delta = line["delta"]
                delta["frames"]["dropped"] = 3 * number
                delta["before_us"].update(rx_missed=5, softnet_dropped=number)
                delta["flow"]["gap_bytes"] = 1000 * number
                delta["lines_lost"].update(queue_full=7, reader_gone=number)
                more = [3 * number, 5 + number, 1000 * number, 7 + number]
                figures = [one + other for one, other in zip(figures, more)]
            # Killed.
            lines[-1]["final"] = False
        path.unlink()
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (wire.folder / f"http-{sensor}.stats").write_text(text)
        expected.append([sensor, lines[0]["run"], sensor == SENSORS[0], *figures])
    return expected


def nanoseconds(ts):
    whole, fraction = ts.rstrip("Z").split(".")
    whole = datetime.datetime.fromisoformat(whole).replace(tzinfo=datetime.UTC)
    return int(whole.timestamp()) * SECOND + int(fraction)


def quantile(values, share):
    values = sorted(values)
    at = (len(values) - 1) * share
    low = int(at)
    high = min(low + 1, len(values) - 1)
    return values[low] + (at - low) * (values[high] - values[low])


def utc(ns, digits):
    return datetime.datetime.fromtimestamp(ns // SECOND, datetime.UTC).isoformat()[:digits]


def text(end):
    return str(end[0])


def grouped(rows, key):
    groups = collections.defaultdict(list)
    for row in rows:
        groups[key(row)].append(row)
    return groups


def mean_ms(rows, name):
    known = [row[name] for row in rows if row[name] is not None]
    return statistics.fmean(known) / MS if known else None


def total(rows, name):
    known = [row[name] for row in rows if row[name] is not None]
    return sum(known) if known else None


def is_retry(last, told):
    has_failed = last["outcome"] == "no_response" or last["status"] == 429 or last["status"] >= 500
    return has_failed and told["at"] - last["at"] <= 5 * SECOND


def answers(traffic, losses):
    """What follows from what was sent, in the order of the questions."""
    all = traffic.exchanges
    path = lambda told: (told["host"], told["target"].split("?")[0])
    slow = [
        [*names, len(rows), quantile([row["ttfb"] for row in rows], 0.5) / MS,
         quantile([row["ttfb"] for row in rows], 0.99) / MS]
        for names, rows in grouped([it for it in all if it["ttfb"] is not None], path).items()
        if len(rows) >= 20
    ]
    yield sorted(slow, key=lambda row: -row[4])

    answered = [told for told in all if told["status"]]
    shares = []
    for names, rows in grouped(answered, lambda it: (utc(it["at"], 16), it["host"])).items():
        errors = sum(row["status"] >= 500 for row in rows)
        if errors:
            shares.append([*names, len(rows), errors, errors / len(rows)])
    yield sorted(shares)

    ends = lambda it: (text(it["ends"][0]), text(it["ends"][1]), it["ends"][1][1], it["host"] or "")
    pairs = [[*names, len(rows), total(rows, "sent"), total(rows, "size")]
             for names, rows in grouped(all, ends).items()]
    yield sorted(pairs, key=lambda row: (-row[4], *row[:4]))[:20]

    same = lambda it: (text(it["ends"][0]), it["host"], it["method"], it["target"])
    again = []
    for rows in grouped(sorted(all, key=lambda it: it["at"]), same).values():
        again += [told for last, told in zip(rows, rows[1:]) if is_retry(last, told)]
    retries = [
        [*names, len(rows), sum(200 <= row["status"] <= 399 for row in rows)]
        for names, rows in grouped(again, lambda it: (it["host"], it["method"], it["target"])).items()
    ]
    yield sorted(retries, key=lambda row: (-row[3], row[0], row[2]))

    large = sorted((it for it in all if (it["size"] or 0) >= 1_000_000), key=lambda it: -it["size"])
    yield [[utc(it["at"], 19), text(it["ends"][0]), it["host"], it["target"], it["size"],
            it["size"] * 1000 / it["response_ns"], "complete"] for it in large]

    dead = grouped([it for it in all if it["outcome"] == "no_response"],
                   lambda it: (text(it["ends"][1]), it["ends"][1][1], it["host"], it["end"]))
    rows = [[*names, len(rows), len({text(row["ends"][0]) for row in rows})]
            for names, rows in dead.items()]
    yield sorted(rows, key=lambda row: (-row[4], row[0], row[3]))

    yield losses

    calls = grouped([it for it in all if "grpc" in it], lambda it: (it["target"], it["grpc"][0]))
    rows = [[*names, len(rows), mean_ms(rows, "duration"), sum(row["grpc"][1] for row in rows),
             sum(row["grpc"][2] for row in rows)] for names, rows in calls.items()]
    yield sorted(rows, key=lambda row: (row[0], row[1] is None, row[1] or 0))

    yield [[talk["client"], "chat.example", "/ws", talk["seconds"], *talk["sides"],
            4 * sum(talk["sides"]), *talk["close"]]
           for talk in sorted(traffic.talks, key=lambda talk: -talk["seconds"])]

    complete = grouped([it for it in all if it["outcome"] == "complete"], lambda it: it["host"] or "")
    yield [[host, len(rows), mean_ms(rows, "connect"), 0, mean_ms(rows, "ttfb"),
            mean_ms(rows, "response_ns")] for host, rows in sorted(complete.items())]


    old = grouped([it for it in traffic.tls_connections
                   if it["version"] == "1.0" or it["not_after"] < "2026-12-24"],
                  lambda it: (it["name"], it["server"], it["version"], it["not_after"]))
    rows = [[*names, len(rows), sum(row["is_complete"] for row in rows)]
            for names, rows in old.items()]
    yield sorted(rows, key=lambda row: (-row[4], *row[:3]))


class ClickHouse:
    name = "ClickHouse"
    nanoseconds = "toUnixTimestamp64Nano(ts)"

    def __init__(self):
        self.session = chdb.session.Session()

    def run(self, sql):
        for statement in re.sub("^ *--.*$", "", sql, flags=re.MULTILINE).split(";"):
            if statement.strip():
                self.session.query(statement)

    def rows(self, sql):
        settings = " SETTINGS output_format_json_quote_64bit_integers = 0"
        told = self.session.query(sql.rstrip().rstrip(";") + settings, "JSONCompactEachRow")
        return [json.loads(line) for line in str(told).splitlines() if line]


class DuckDb:
    name = "DuckDB"
    nanoseconds = "epoch_ns(ts)"

    def __init__(self):
        self.database = duckdb.connect()

    def run(self, sql):
        self.database.execute(sql)

    def rows(self, sql):
        return [list(row) for row in self.database.execute(sql).fetchall()]


def run_shell(command, folder):
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", command], cwd=folder, text=True,
                          capture_output=True)
    if done.returncode != 0 or done.stderr:
        lab.fail(f"{command}\n{done.stderr}")
    return done.stdout


def blocks(page, heading=None):
    """The blocks of code under a heading, each with its language."""
    if heading:
        page = page.split(f"\n## {heading}", 1)[1].split("\n## ", 1)[0]
    return re.findall(r"^```(sql|sh)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


def of_engine(found, engine):
    [sql] = [code for kind, code in found if kind == "sql" and code.startswith(f"-- {engine.name}\n")]
    return sql


def is_same(one, other):
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(is_same, one, other))
    # An absent text is empty in ClickHouse.
    one, other = (None if it == "" else it for it in (one, other))
    if isinstance(one, (int, float)) and isinstance(other, (int, float)):
        # SQL rounds to three or four digits.
        return abs(float(one) - float(other)) <= 0.00051
    return one == other


def check(what, found, wanted):
    found = [[float(it) if type(it).__name__ == "Decimal" else it for it in row] for row in found]
    if not is_same(found, wanted):
        lab.fail(f"{what} has\n{json.dumps(found, indent=1)}\nand not\n{json.dumps(wanted, indent=1)}")


def check_tables(engines, records, traffic):
    """Every record is there, with each key and all digits of its time, and each exchange once."""
    once = len(traffic.exchanges) + len(traffic.talks) + len(traffic.tls_connections)
    keys = {(it.get("type"), it["flow"], it["n"]) for it in records}
    if len(keys) != once or len(records) <= 2 * once:
        lab.fail(f"{len(records)} records have {len(keys)} keys, of {once} exchanges and talks")
    times = sorted(nanoseconds(it["ts"]) for it in records)
    if len({time % 10 for time in times}) < 5:
        lab.fail("the last digits of the times are too much alike")
    schema = json.loads((DOCS / "schema.json").read_text())["properties"]
    for sensor in SENSORS:
        own = [it for it in records if it["sensor"] == sensor]
        if not any("gap_bytes" in it for it in own) or not any("partial" in it for it in own):
            lab.fail(f"{sensor} has lost nothing, or has no partial record")
    for engine in engines:
        what = f"{engine.name}'s table"
        check(what, engine.rows("SELECT count(*) FROM http"), [[len(records)]])
        once_sql = of_engine(blocks((DOCS / "queries.md").read_text(), "1."), engine)
        source = re.search(r"http_once\(.*?\)", once_sql)[0]
        check(f"{what}, once", engine.rows(f"SELECT count(*) FROM {source}"), [[once]])
        gaps = f"SELECT count(*) FROM {source} WHERE gap_bytes > 0 OR partial OR midstream"
        check(f"{what}, whole copies", engine.rows(gaps), [[0]])
        found = sorted(row[0] for row in engine.rows(f"SELECT {engine.nanoseconds} FROM http"))
        if found != times:
            lab.fail(f"{what} has other times: {found[:3]}, {times[:3]}")
        for name, property in schema.items():
            wanted = [it[name] for it in records if name in it]
            if property.get("type") == "integer" and property["minimum"] == 0:
                sql = f"SELECT count({name}), sum({name}) FROM http"
                expected = [len(wanted), sum(wanted) if wanted else None]
                check(f"{what}, {name}", engine.rows(sql), [expected])
            elif property.get("type") == "integer":
                sql = f"SELECT coalesce(sum({name}), 0) FROM http"
                check(f"{what}, {name}", engine.rows(sql), [[sum(wanted)]])
            elif property.get("const") is True:
                sql = f"SELECT coalesce(sum(CASE WHEN {name} THEN 1 ELSE 0 END), 0) FROM http"
                check(f"{what}, {name}", engine.rows(sql), [[len(wanted)]])
            elif property.get("type") == "string" and name not in ("ts", "client_ip", "server_ip"):
                column = f'"{name}"'
                sql = f"SELECT DISTINCT {column} FROM http WHERE {column} <> '' ORDER BY {column}"
                check(f"{what}, {name}", engine.rows(sql), [[it] for it in sorted(set(wanted))])


def check_headers(engines, records):
    wanted = [json.dumps(it["request_headers"]) for it in records if "request_headers" in it]
    for engine in engines:
        sql = "SELECT CAST(request_headers AS VARCHAR) FROM http WHERE request_headers IS NOT NULL"
        found = [json.loads(row[0]) for row in engine.rows(sql) if row[0]]
        if sorted(map(json.dumps, found)) != sorted(wanted):
            lab.fail(f"{engine.name} has other headers")


def check_other_pages(folder, records, losses):
    """The commands for jq that other pages have."""
    lines = [line for path in sorted(folder.glob("http-*.jsonl"))
             for line in path.read_text().splitlines(keepends=True)]
    (folder / "http.jsonl").write_text("".join(lines))
    over = [it for it in records if "partial" not in it]
    [command] = [code for kind, code in blocks((DOCS / "output.md").read_text())
                 if kind == "sh" and "partial" in code]
    for line in command.splitlines():
        found = [json.loads(it) for it in run_shell(line, folder).splitlines()]
        if found != over:
            lab.fail(f"{line} leaves {len(found)} records and not {len(over)}")
    (folder / "http.jsonl").unlink()

    statistics = [json.loads(line) for path in sorted(folder.glob("http*.stats"))
                  for line in path.read_text().splitlines()]
    lost, when, killed = [code for kind, code in blocks((DOCS / "files.md").read_text())
                          if kind == "sh" and "http*.stats" in code]
    names = ("by_kernel", "before_us", "gap_bytes", "lines")
    wanted = dict(zip(names, (sum(row[3 + at] for row in losses) for at in range(4))))
    if json.loads(run_shell(lost, folder)) != wanted:
        lab.fail(f"what is missing is {wanted}, and not {run_shell(lost, folder)}")
    times = [it["ts"] for it in statistics if it["delta"]["frames"]["dropped"]]
    found = [json.loads(line)[0] for line in run_shell(when, folder).splitlines()]
    if not times or found != times:
        lab.fail(f"something was lost at {times}, and not {found}")
    last = [it for it in statistics if it["sensor"] == SENSORS[1]][-1]
    found = json.loads(run_shell(killed, folder))
    if found != [last["run"], last["pid"], last["ts"]]:
        lab.fail(f"{found} is not the run that was killed")
    lab.say("    the commands in docs/output.md and docs/files.md give what they should")


def check_days(folder, page, engine, record):
    """The page's command loads files of many days, each of which is a partition."""
    days = 120
    first = datetime.date(2026, 1, 1)
    lines = [json.dumps({**record, "ts": f"{first + datetime.timedelta(day)}T12:00:00.000000000Z"})
             for day in range(days)]
    (folder / "days").mkdir()
    (folder / "days/http.jsonl").write_text("".join(line + "\n" for line in lines))
    os.chdir(folder / "days")
    engine.run("TRUNCATE TABLE http")
    engine.run(of_engine(blocks(page, "Tables"), engine).split(";")[0])
    check("days", engine.rows("SELECT count(DISTINCT toDate(ts)) FROM http"), [[days]])


def check_template():
    template = json.loads((DOCS / "schema/opensearch.json").read_text())
    mapped = template["template"]["mappings"]["properties"]
    if list(mapped) != list(json.loads((DOCS / "schema.json").read_text())["properties"]):
        lab.fail("OpenSearch's template has other fields than the schema")


def main():
    wire = lab.Lab()
    losses = write_statistics(wire)
    traffic = Traffic.of_a_day()
    records = write_records(traffic, wire.folder)
    # The files are named on the page as they are in this folder.
    os.chdir(wire.folder)
    page = (DOCS / "queries.md").read_text()
    engines = [ClickHouse(), DuckDb()]
    # Both read compressed files, too.
    compressed = f"http-{SENSORS[1]}.jsonl"
    run_shell(f"zstd -q --rm {compressed}", wire.folder)
    for engine in engines:
        engine.run((DOCS / f"schema/{engine.name.lower()}.sql").read_text())
        engine.run(of_engine(blocks(page, "Tables"), engine))
    run_shell(f"zstd -dq --rm {compressed}.zst", wire.folder)
    check_tables(engines, records, traffic)
    check_headers(engines, records)
    check_template()
    lab.say(f"    {len(records)} records of {len(SENSORS)} sensors are in both tables")
    [(_, once)] = blocks(page, "Each record once")
    run_shell(once, wire.folder)
    for number, wanted in enumerate(answers(traffic, losses), start=1):
        found = blocks(page, f"{number}. ")
        if not wanted:
            lab.fail(f"question {number} has no answer that could be wrong")
        for engine in engines:
            check(f"{engine.name}, question {number},", engine.rows(of_engine(found, engine)), wanted)
        [command] = [code for kind, code in found if kind == "sh"]
        rows = [json.loads(line) for line in run_shell(command, wire.folder).splitlines()]
        check(f"jq, question {number},", rows, wanted)
        lab.say(f"    question {number}: {len(wanted)} rows, three times the same")
    check_other_pages(wire.folder, records, losses)
    check_days(wire.folder, page, engines[0], records[0])
    if len(re.findall(r"^## \d+\. ", page, re.MULTILINE)) != number:
        lab.fail(f"the page has another number of questions than {number}")


if __name__ == "__main__":
    main()
