"""The way of lines from files to a consumer: a broker that speaks Kafka's protocol, rsyslog with the
configuration of the documentation, and a consumer that remembers all."""

import collections
import re
import shlex
import subprocess
import sys
import threading

import lab
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition

# What the mock gives each topic.
PARTITIONS = 4


def start_broker(wire):
    """Returns the broker's process, and its address."""
    program = lab.ROOT / "tests/integration/mock_broker.py"
    broker = wire.start(None, [sys.executable, program], "broker.out")
    said = wire.folder / "broker.out"
    address = re.compile(r"^brokers (\S+)$", re.MULTILINE)
    lab.await_that("there is a broker", lambda: address.search(said.read_text()), ended=[broker])
    return broker, address.search(said.read_text())[1]


class Follower(threading.Thread):
    """Consumes a topic from its first message, and remembers all of it in `lines`."""

    def __init__(self, brokers, topic):
        super().__init__(daemon=True)
        self.lines = []
        self.error = None
        self.is_over = False
        self.consumer = Consumer(
            {
                "bootstrap.servers": brokers,
                "group.id": "integration",
                "enable.auto.commit": False,
                # A message that the broker no longer has must not be passed over.
                "auto.offset.reset": "error",
                "fetch.wait.max.ms": 50,
                # What is wrong comes as an error; at the end of a test the broker may go first.
                "log_level": 2,
            }
        )
        # The mock makes a topic for whoever asks.
        self.consumer.list_topics(topic, timeout=10)
        self.consumer.assign(
            [TopicPartition(topic, number, OFFSET_BEGINNING) for number in range(PARTITIONS)]
        )
        self.start()

    def run(self):
        next_offset = collections.Counter()
        try:
            while not self.is_over:
                for message in self.consumer.consume(1000, timeout=0.1):
                    if message.error():
                        raise KafkaException(message.error())
                    partition, offset = message.partition(), message.offset()
                    if offset != next_offset[partition]:
                        raise RuntimeError(f"offset {offset} follows {next_offset[partition] - 1}")
                    next_offset[partition] += 1
                    self.lines.append(message.value())
        except Exception as error:
            self.error = error


def replaced(text, places):
    """The text with the places of a test instead of those of the documentation."""
    for documented, ours in places.items():
        if documented not in text:
            lab.fail(f"the documentation does not name {documented}")
        text = text.replace(documented, str(ours))
    return text


class Rsyslog:
    """rsyslogd with the configuration of the documentation, and other places: the files are in
    `folder`/out, and all else below `folder`, too."""

    def __init__(self, wire, folder, brokers, conf=None):
        """`conf` is the path of a configuration that was made of docs/rsyslog.conf."""
        self.wire, self.folder = wire, folder
        self.output = self.folder / "all.jsonl"
        (self.folder / "spool").mkdir()
        text = (conf or lab.ROOT / "docs/rsyslog.conf").read_text()
        places = {
            "/var/spool/rsyslog": self.folder / "spool",
            "/var/log/httplines/": f"{self.folder}/out/",
        }
        if not conf:
            places |= {"/var/log/http-all.jsonl": self.output, "kafka:9092": brokers}
        (self.folder / "rsyslog.conf").write_text(replaced(text, places))
        self.begin()

    def begin(self):
        command = ["rsyslogd", "-n", "-f", self.folder / "rsyslog.conf"]
        # One that was killed leaves its file behind.
        (self.folder / "rsyslog.pid").unlink(missing_ok=True)
        command += ["-i", self.folder / "rsyslog.pid"]
        self.process = self.wire.start(None, command, self.folder / "rsyslog.err")

    def clean_up(self, result):
        """Does what systemd does when rsyslog has ended."""
        unit = (lab.ROOT / "docs/rsyslog-unclean.conf").read_text()
        command = re.search("^ExecStopPost=(.*)$", unit, re.MULTILINE)[1].replace("$$", "$")
        command = replaced(command, {"/var/spool/rsyslog": self.folder / "spool"})
        subprocess.run(
            shlex.split(command), env={"SERVICE_RESULT": result, "PATH": "/bin"}, check=True
        )

    def lines(self):
        return self.output.read_bytes().split(b"\n") if self.output.exists() else [b""]
