"""Three sensors on overlapping taps, rsyslog for each, Kafka's protocol, and ClickHouse, as
docs/fleet.md has it. On the way one rsyslog and one sensor are killed and started again. What must
be in ClickHouse follows from what the clients did, and when each sensor ran: every exchange that a
sensor saw from its beginning to its end is there once, and what a sensor lost is told with its cause.

    edge-1 sees servers 1 and 2, edge-2 servers 2 and 3, edge-3 servers 3 and 4
"""

import collections
import json
import os
import re
import signal
import sys
import time

import fleet_traffic
import lab
import shipping
from queries import ClickHouse, blocks, of_engine, run_shell

SENSORS = {"edge-1": (1, 2), "edge-2": (2, 3), "edge-3": (3, 4)}
ADDRESSES = {number: f"10.99.1.{10 + number}" for number in (1, 2, 3, 4)}
# One that is killed, the one whose shipper is killed, and the one whose tap loses marked packets.
KILLED, LATE_SHIPPER, LOSSY = "edge-1", "edge-2", "edge-2"
# Exchanges after which the shipper is killed and started, the sensor is killed and started, Kafka is
# stopped and goes on, and the clients stop.
SHIPPER_KILLED, SHIPPER_BACK, SENSOR_KILLED, SENSOR_BACK = 1000, 2000, 3000, 4000
KAFKA_STOPPED, KAFKA_BACK, OVER = 5000, 5800, 6800
# A line is in the file after that time, and a response at the client after it passed the tap.
SLACK_NS = 1_000_000_000
PAGE = lab.ROOT / "docs/fleet.md"
# Messages in the memory of each rsyslog.
CLIENT_QUEUE = 200
# So often an rsyslog that has lines left is started anew, once no more lines are written.
RESTART_S = 10
# Longer than that nothing takes, even if some lines come now and then.
SHIPPED_MAX_S = 240
# Made by the page's commands.
BROKER = "broker.example:9092"
LONG_LINE = 8192


def configuration(wire, name):
    """The packaged configuration, as the page's commands change it, with the places of a test."""
    file = wire.folder / name / "httplines.toml"
    file.write_text((lab.ROOT / "packaging/httplines.toml").read_text())
    [commands] = [code for kind, code in blocks(PAGE.read_text(), "One machine") if kind == "sh"]
    places = {"sudo ": "", "$(hostname)": name, "/etc/httplines/httplines.toml": file}
    for line in shipping.replaced(commands, places).splitlines():
        if line.startswith("sed -i"):
            run_shell(line, wire.folder)
    places = {
        '["eth1"]': '["tap"]',
        "/var/log/httplines/": f"{wire.folder}/{name}/out/",
        'rotate-size = "1G"': 'rotate-size = "256K"',
        "# stats-interval = 10": "stats-interval = 1",
        "# shards = 4": "shards = 1",
        # The disk of a machine that tests may be full of other things.
        'keep-free = "5%"': "",
    }
    file.write_text(shipping.replaced(file.read_text(), places))


class Sensor:
    """A namespace with a tap, httplines there, and its host's files and rsyslog."""

    def __init__(self, wire, name, number):
        self.wire, self.name, self.namespace = wire, name, f"integ-{os.getpid()}-{name}"
        self.folder = wire.folder / name
        (self.folder / "out").mkdir(parents=True)
        wire.add_namespace(self.namespace)
        self.port = f"to_tap{number}"
        switch = wire.server
        wire.ip(f"link add {self.port} netns {switch} type veth peer name tap netns {self.namespace}")
        for namespace, device in ((switch, self.port), (self.namespace, "tap")):
            # A tap says nothing of its own.
            wire.ip(f"-n {namespace} link set {device} addrgenmode none arp off up")
        # For the metrics.
        wire.ip(f"-n {self.namespace} link set lo up")
        configuration(wire, name)
        self.runs = []

    def begin(self):
        """Starts a run, and notes when it was started and when it captured."""
        program = os.environ.get("HTTPLINES", lab.ROOT / "target/release/httplines")
        command = [program, "--config", self.folder / "httplines.toml"]
        said = self.folder / f"httplines-{len(self.runs)}.err"
        started = time.time_ns()
        self.process = self.wire.start(self.namespace, command, said)
        lab.await_that(f"{self.name} captures", lambda: "capturing on" in said.read_text(),
                       ended=[self.process])
        self.runs.append({"started": started, "captures": time.time_ns(), "killed": None})

    def kill(self):
        self.runs[-1]["killed"] = time.time_ns()
        self.process.kill()
        self.process.wait()

    def end(self):
        lab.stop(self.process, signal.SIGINT)
        totals = (self.folder / f"httplines-{len(self.runs) - 1}.err").read_text()
        if self.process.returncode != 0 or "  sums       every" not in totals:
            lab.fail(f"{self.name} ended with {self.process.returncode}:\n{totals}")

    def lines(self, ending):
        files = sorted((self.folder / "out").glob(f"http*{ending}"))
        return [line for file in files for line in file.read_bytes().split(b"\n") if line]


def build(wire):
    """A switch with the clients, four servers, and the taps, which get copies of all that passes at
    a server's port, but for the marked packets on one of them."""
    switch = wire.server
    wire.ip(f"-n {switch} addr flush dev wire1")
    wire.ip(f"-n {switch} link add switch0 type bridge")
    wire.ip(f"-n {switch} link set switch0 up")
    wire.ip(f"-n {switch} link set wire1 master switch0")
    sensors = {name: Sensor(wire, name, at) for at, name in enumerate(SENSORS)}
    rules = []
    for number, address in ADDRESSES.items():
        name, port = f"integ-{os.getpid()}-web{number}", f"port{number}"
        wire.add_namespace(name)
        wire.ip(f"link add {port} netns {switch} type veth peer name eth0 netns {name}")
        wire.ip(f"-n {switch} link set {port} master switch0 up")
        wire.ip(f"-n {name} addr add {address}/24 dev eth0")
        wire.ip(f"-n {name} link set eth0 up")
        for hook in ("ingress", "egress"):
            copies = [
                ("ip dscp != 8 " if sensor == LOSSY else "") + f"dup to {sensors[sensor].port}"
                for sensor, servers in SENSORS.items() if number in servers
            ]
            rules.append(f"chain {port}_{hook} {{ type filter hook {hook} device {port} priority 0;"
                         f" {'; '.join(copies)}; }}")
        said = wire.folder / f"web{number}.out"
        server = wire.start(name, [sys.executable, fleet_traffic.__file__, "serve", address], said)
        lab.await_that("the server listens", lambda: "listening" in said.read_text(), ended=[server])
    (wire.folder / "switch.nft").write_text("\n".join(["table netdev mirror {", *rules, "}\n"]))
    run_shell(f"ip netns exec {switch} nft -f {wire.folder}/switch.nft", wire.folder)
    return sensors


class Clients:
    """The load; each exchange is a line in a file."""

    def __init__(self, wire):
        self.said, self.read, self.count = wire.folder / "clients.jsonl", 0, 0
        command = [sys.executable, fleet_traffic.__file__, "drive", *ADDRESSES.values()]
        self.process = wire.start(wire.client, command, self.said)

    def await_exchanges(self, count):
        def are_there():
            with open(self.said, "rb") as file:
                file.seek(self.read)
                text = file.read()
            self.read += len(text)
            self.count += text.count(b"\n")
            return self.count >= count

        lab.await_that(f"{count} exchanges are over", are_there, 120, [self.process])

    def end(self):
        lab.stop(self.process)
        if self.process.returncode != 0:
            lab.fail(f"the clients ended with {self.process.returncode}:"
                     f" {self.said.read_text()[-2000:]}")
        return [json.loads(line) for line in self.said.read_text().splitlines()]


def how_seen(exchange, run):
    """What a run of a sensor can tell of an exchange that passed its tap."""
    if exchange["ended"] < run["started"]:
        return "not"
    if run["killed"] and exchange["begun"] > run["killed"]:
        return "not"
    if exchange["opened"] < run["started"]:
        # An exchange that was under way when the run began may be told in part.
        return "late" if exchange["begun"] > run["captures"] else "part"
    if exchange["opening"] < run["captures"]:
        return "part"
    if run["killed"] and exchange["ended"] > run["killed"] - SLACK_NS:
        return "part"
    return "whole"


GROUPS = [
    ("seen whole by one sensor", "once"),
    ("seen whole by two sensors", "once"),
    (f"of connections that {KILLED} joined late, and only it saw", "once, late"),
    ("... and another sensor saw whole", "once, and once late"),
    (f"open when {KILLED} was killed", "perhaps"),
    (f"over for less than 1 s when {KILLED} was killed", "perhaps"),
    (f"while {KILLED} started again", "perhaps"),
    (f"while {KILLED} was down, and only it would have seen", "not there"),
]


def expectation(exchange, sensors):
    """The group of an exchange, how many rows it must have (whole, late; None: 0 or 1), and how many
    bytes no copy has."""
    server = next(n for n, address in ADDRESSES.items() if address == exchange["server"])
    seen = {name: [how_seen(exchange, run) for run in sensors[name].runs]
            for name, servers in SENSORS.items() if server in servers}
    whole = [name for name, kinds in seen.items() if "whole" in kinds]
    kinds = [kind for runs in seen.values() for kind in runs]
    gap = fleet_traffic.MARKED_BYTES if exchange["kind"] == "marked" and whole == [LOSSY] else 0
    late = None if "part" in kinds else int("late" in kinds)
    if whole:
        at = 3 if "late" in kinds else len(whole) - 1
        return at, 1, late, gap
    if "late" in kinds:
        return 2, 0, 1, gap
    if "part" in kinds:
        killed = sensors[KILLED].runs[0]["killed"]
        at = 6 if exchange["begun"] > killed else 4 if exchange["ended"] > killed else 5
        return at, None, None, gap
    return 7, 0, 0, gap


ROWS = """
SELECT toUInt64OrZero(extract(target, '^/[a-z]+/([0-9]+)[?]q=')) AS number, midstream, sensor, outcome,
    status, method, client_port,
    replaceRegexpOne(toString(server_ip), '^::ffff:([0-9.]+)$', '\\\\1'),
    request_body_bytes, response_body_bytes, gap_bytes
FROM http_once(since = '2000-01-01', until = '2100-01-01')
"""


def judge(exchanges, sensors, rows):
    """Prints how the rows agree with what was done. Returns what is wrong."""
    wrong, table = [], [collections.Counter() for _ in GROUPS]
    by_number = collections.defaultdict(list)
    for row in rows:
        by_number[row[0]].append(row)
    parts = by_number.pop(0, [])
    for row in parts:
        if row[2] != KILLED or not row[1]:
            wrong.append(f"a row of no request, of {row[2]}: {row}")
    for exchange in exchanges:
        at, whole, late, gap = expectation(exchange, sensors)
        found = by_number.pop(exchange["number"], [])
        counts = {is_late: sum(row[1] == is_late for row in found) for is_late in (False, True)}
        told = table[at]
        told["exchanges"] += 1
        told["whole"] += counts[False]
        told["late"] += counts[True]
        for is_late, wanted in ((False, whole), (True, late)):
            least, most = (0, 1) if wanted is None else (wanted, wanted)
            told["missing"] += max(0, least - counts[is_late])
            told["doubled"] += max(0, counts[is_late] - most)
            if not least <= counts[is_late] <= most:
                wrong.append(f"{GROUPS[at][0]}: {exchange} has {found}")
        for row in found:
            wanted = ["complete", 200, exchange["method"], exchange["port"], exchange["server"],
                      exchange["sent"], exchange["size"]]
            is_part = whole is None or (row[1] and late is None)
            if not is_part and (row[3:10] != wanted or row[10] > gap):
                wrong.append(f"{exchange} is told as {row}")
    wrong += [f"nobody asked for {row}" for rows in by_number.values() for row in rows]
    lab.say(f"  {'exchanges':57}{'number':>8}{'must be there':>21}{'there':>7}{'late':>6}"
            f"{'missing':>9}{'twice':>7}")
    for (name, must), told in zip(GROUPS, table):
        figures = [told[it] for it in ("whole", "late", "missing", "doubled")]
        lab.say("  {:57}{:8}{:>21}{:7}{:6}{:9}{:7}".format(name, told["exchanges"], must, *figures))
    lab.say(f"  ends of exchanges that {KILLED} joined in the middle: {len(parts)} rows")
    if any(told["exchanges"] == 0 for told in table):
        wrong.append("a group has no exchange")
    return wrong


def judge_matches(session, rows):
    """The query of the page leaves of each exchange one row, also of those with two keys."""
    once = len({row[0] for row in rows if row[0]}) + sum(row[0] == 0 for row in rows)
    sql = of_engine(blocks(PAGE.read_text(), "Joined late"), session)
    # Whatever the clock of this machine.
    sql = shipping.replaced(sql, {"2026-12-01": "2000-01-01"})
    [[count, late]] = session.rows(sql)
    lab.say(f"  matched by community_id and time: {len(rows)} rows are {count} exchanges,"
            f" {late} of which only {KILLED} saw, late")
    return [] if count == once else [f"the page's query leaves {count} rows instead of {once}"]


def judge_arrivals(session):
    """What sensors say that they have written is what is there."""
    wrong = []
    sql = of_engine(blocks(PAGE.read_text(), "When something is down"), session)
    for sensor, written, there in session.rows(sql):
        lab.say(f"  {sensor} says that it has written {written} lines: {there} are there")
        if there < written or (there > written and sensor != KILLED):
            wrong.append(f"{sensor} has written {written} lines, and {there} are there")
    return wrong


def judge_losses(rows, exchanges, sensors):
    """What the sidecars say: only the lossy tap has lost something, and exactly the marked bytes."""
    lab.say(f"\n  {'sensor':8}{'run':18}{'':8}{'by kernel':>11}{'before us':>11}{'gap bytes':>11}"
            f"{'lines lost':>12}")
    for sensor, run, has_ended, *losses in rows:
        end = "ended" if has_ended else "killed"
        lab.say("  {:8}{:18}{:8}{:11}{:11}{:11}{:12}".format(sensor, run, end, *losses))
    own = [ADDRESSES[number] for number in SENSORS[LOSSY]]
    marked = sum(it["kind"] == "marked" and it["server"] in own for it in exchanges)
    wanted = {LOSSY: marked * fleet_traffic.MARKED_BYTES}
    wrong = []
    for row in rows:
        sensor, _, _, by_kernel, before_us, gap_bytes, lines = row
        if by_kernel or lines:
            wrong.append(f"{sensor} itself lost frames or lines: is this machine busy?")
        elif sensor != KILLED and gap_bytes != wanted.get(sensor, 0):
            wrong.append(f"{sensor} has lost {gap_bytes} bytes in gaps, and not"
                         f" {wanted.get(sensor, 0)}; {before_us} frames were lost before it")
    runs = collections.Counter((row[0], bool(row[2])) for row in rows)
    if runs != {**{(name, True): 1 for name in SENSORS}, (KILLED, False): 1}:
        wrong.append(f"the sidecars tell of other runs: {dict(runs)}")
    return wrong


def make_tables(session, page):
    """The tables of the schema, and what reads from Kafka into them. A library has no threads for
    the engine Kafka: it has to know all of its settings, and an empty table takes its place."""
    session.run((lab.ROOT / "docs/schema/clickhouse.sql").read_text())
    sql = of_engine(blocks(page, "Kafka to ClickHouse"), session)
    engine = re.compile(r"^ENGINE = Kafka SETTINGS [^;]*", re.MULTILINE)
    for number, settings in enumerate(engine.findall(sql)):
        try:
            session.run(f"CREATE TABLE settings_{number} AS http {settings}")
        except Exception as error:
            if "Shutdown was called" not in str(error):
                lab.fail(f"{settings}: {error}")
    session.run(engine.sub("ENGINE = Null", sql))


def load(session, folder, queue, lines):
    """Inserts messages as the engine Kafka does. Returns how many are no lines and were left out."""
    whole = [line for line in lines if line.endswith(b"}")]
    (folder / "batch.jsonl").write_bytes(b"".join(line + b"\n" for line in whole))
    session.run(f"INSERT INTO {queue} FROM INFILE '{folder}/batch.jsonl' SETTINGS"
                " date_time_input_format = 'best_effort', input_format_skip_unknown_fields = 1"
                " FORMAT JSONEachRow")
    return len(lines) - len(whole)


def ship(wire, sensors, brokers):
    """rsyslog for each sensor, with the configuration that the page makes."""
    [command] = [code for kind, code in blocks(PAGE.read_text(), "rsyslog to Kafka")
                 if kind == "sh" and "sed" in code]
    command = command.splitlines()[0]
    conf = wire.folder / "httplines.conf"
    examples = {"/usr/share/doc/httplines/examples": lab.ROOT / "docs"}
    run_shell(shipping.replaced(command, examples), wire.folder)
    places = {
        BROKER: brokers,
        # Seconds without Kafka fill the queue of its client, as hours do with the default.
        '"compression': f'"queue.buffering.max.messages={CLIENT_QUEUE}", "compression',
    }
    text = shipping.replaced(conf.read_text(), places)
    if "omfile" in text or "kafka:9092" in text:
        lab.fail(f"the page's command leaves\n{text}")
    conf.write_text(text)
    for sensor in sensors.values():
        sensor.rsyslog = shipping.Rsyslog(wire, sensor.folder, brokers, conf)


def kill(rsyslog):
    rsyslog.process.kill()
    rsyslog.process.wait()
    rsyslog.clean_up("signal")


def kill_and_begin(rsyslog):
    kill(rsyslog)
    rsyslog.begin()


def await_shipped(sensors, ending, topic):
    """Waits until all lines of the sensors' files have come; fails with those that have not, when
    none came for some time. What the Kafka client did not take is tried again with the next line,
    of which there is none here: so an rsyslog from which nothing comes reads all files again."""
    begun = come_at = time.monotonic()
    start_at, least = begun + RESTART_S, None
    while time.monotonic() < min(come_at + lab.WAIT_S, begun + SHIPPED_MAX_S):
        come, absent, late, absent_count = set(topic.lines), [], set(), 0
        for name, sensor in sensors.items():
            for file in sorted((sensor.folder / "out").glob(f"http*{ending}")):
                lines = file.read_bytes().split(b"\n")[:-1]
                count = sum(line not in come for line in lines)
                absent_count += count
                if count:
                    absent.append(f"{name}: {count} of {len(lines)} lines of {file.name}")
                    late.add(name)
        if not absent:
            return
        if least is None or absent_count < least:
            least, come_at = absent_count, time.monotonic()
            start_at = come_at + RESTART_S
        if time.monotonic() >= start_at:
            for name in late:
                kill_and_begin(sensors[name].rsyslog)
            start_at = time.monotonic() + RESTART_S
        time.sleep(0.2)
    logs = [(sensor.folder / "rsyslog.err").read_text()[-2000:] for sensor in sensors.values()]
    waited_s = round(time.monotonic() - begun)
    lab.fail("\n".join([f"after {waited_s} s these are not in Kafka:", *absent, *logs]))


def run(sensors, topics, broker, clients):
    """The whole course of events. Returns the exchanges of the clients."""
    shipper, killed = sensors[LATE_SHIPPER].rsyslog, sensors[KILLED]
    clients.await_exchanges(SHIPPER_KILLED)
    kill(shipper)
    clients.await_exchanges(SHIPPER_BACK)
    shipper.begin()
    clients.await_exchanges(SENSOR_KILLED)
    killed.kill()
    clients.await_exchanges(SENSOR_BACK)
    killed.begin()
    clients.await_exchanges(KAFKA_STOPPED)
    broker.send_signal(signal.SIGSTOP)
    clients.await_exchanges(KAFKA_BACK)
    broker.send_signal(signal.SIGCONT)
    clients.await_exchanges(OVER)
    exchanges = clients.end()
    # The last lines are on their way to the files.
    time.sleep(SLACK_NS / 1e9)
    for sensor in sensors.values():
        sensor.end()
    lines = {it: [line for sensor in sensors.values() for line in sensor.lines(it)]
             for it in (".jsonl", ".stats")}
    # In the middle of what the outage has left. (By a kill: a stop may lose a few lines, as the page
    # says.)
    for sensor in sensors.values():
        kill_and_begin(sensor.rsyslog)
    for ending, topic in zip(lines, topics):
        await_shipped(sensors, ending, topic)
    for sensor in sensors.values():
        lab.stop(sensor.rsyslog.process)
    for topic in topics:
        topic.is_over = True
        topic.join(10)
        if topic.error:
            lab.fail(f"the consumer: {topic.error}")
    lab.say(f"  {len(exchanges)} exchanges; {len(lines['.jsonl'])} lines in the files,"
            f" {len(topics[0].lines)} messages in Kafka\n")
    if max(map(len, lines[".jsonl"])) <= LONG_LINE:
        lab.fail("no line is longer than what rsyslog splits by default")
    if len(topics[0].lines) <= len(lines[".jsonl"]):
        lab.fail("nothing was delivered twice")
    return exchanges


def main():
    wire = lab.Lab()
    sensors = build(wire)
    broker, brokers = shipping.start_broker(wire)
    topics = [shipping.Follower(brokers, topic) for topic in ("http", "http_stats")]
    for sensor in sensors.values():
        sensor.begin()
    ship(wire, sensors, brokers)
    lab.say(f"  rsyslog of {LATE_SHIPPER} is killed after {SHIPPER_KILLED} exchanges, and back after"
            f" {SHIPPER_BACK}; {KILLED} after {SENSOR_KILLED} and {SENSOR_BACK};\n  Kafka does not"
            f" answer from {KAFKA_STOPPED} to {KAFKA_BACK}")
    exchanges = run(sensors, topics, broker, Clients(wire))
    session, page = ClickHouse(), PAGE.read_text()
    make_tables(session, page)
    # A run that was killed may leave half a line.
    torn = sum(load(session, wire.folder, queue, topic.lines)
               for queue, topic in zip(("http_queue", "http_stats_queue"), topics))
    rows = session.rows(ROWS)
    wrong = judge(exchanges, sensors, rows)
    wrong += judge_matches(session, rows) + judge_arrivals(session)
    queries = (lab.ROOT / "docs/queries.md").read_text()
    losses = session.rows(of_engine(blocks(queries, "7."), session))
    wrong += judge_losses(losses, exchanges, sensors)
    [versions] = session.rows(of_engine(blocks(page, "Upgrading"), session))
    if versions[1] != len(SENSORS):
        wrong.append(f"{versions} are not {len(SENSORS)} sensors of one version")
    if torn > 2:
        wrong.append(f"{torn} messages are no lines, of one run that was killed")
    if wrong:
        lab.fail(f"{len(wrong)} are wrong, such as\n" + "\n".join(wrong[:5]))
    lab.say("\n  Nothing is missing, there twice, or unexplained.")


if __name__ == "__main__":
    main()
