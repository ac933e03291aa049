"""Captures at both ends of the wire of lab.py: each has records of its own, which are compared with
those of the others and with what the peers have logged."""

import collections
import json
import os
import re
import signal

import lab

# What a capture does not have in common with another one.
OF_ONE_CAPTURE = {"ts", "iface", "retransmitted_bytes"}
# They differ in where and how they capture, and in nothing that they tell.
CAPTURES = [
    ("server", 1, ["--shards", "1"]),
    ("server-2", 1, ["--shards", "2"]),
    ("server-off", 1, ["--shards", "1", "--filter", "off"]),
    ("client", 0, ["--shards", "2"]),
    ("client-off", 0, ["--shards", "2", "--filter", "off"]),
]


class Capture:
    """One capture, at the client's end (0) or at the server's (1)."""

    def __init__(self, it, name, end, options):
        self.it, self.name = it, name
        self.lines, self.said = it.folder / f"{name}.jsonl", it.folder / f"{name}.err"
        program = os.environ.get("HTTPLINES", lab.ROOT / "target/release/httplines")
        command = [program, "-i", f"wire{end}", "-B", "32768", "-o", self.lines, *options]
        self.process = it.start((it.client, it.server)[end], command, self.said.name)
        lab.await_that(
            f"capture {name} begins",
            lambda: "capturing on" in self.said.read_text(),
            ended=[self.process],
        )

    def end(self):
        lab.stop(self.process, signal.SIGINT)
        self.totals = self.said.read_text()
        if self.process.returncode != 0 or "  sums       every" not in self.totals:
            lab.fail(f"{self.name} ended with {self.process.returncode}:\n{self.totals}")
        if re.search(r"\+ [1-9]\d* dropped by kernel", self.totals):
            lab.fail(f"{self.name} lost frames, so nothing can be compared:\n{self.totals}")
        return [json.loads(line) for line in self.lines.read_text().splitlines()]


def start_captures(it, suffix, options, kinds=CAPTURES):
    return [Capture(it, f"{name}-{suffix}", end, [*own, *options]) for name, end, own in kinds]


def comparable(record):
    return {
        key: value
        for key, value in record.items()
        if key not in OF_ONE_CAPTURE and not key.endswith("_ns")
    }


def in_order(records):
    key = lambda it: (it["flow"], it["n"], it.get("type", ""))
    return sorted(map(comparable, records), key=key)


def end_with_the_same(captures, in_order=in_order):
    """Ends the captures, which must have the same records, and returns those."""
    told = [(capture, in_order(capture.end())) for capture in captures]
    first, records = told[0]
    for other, others in told[1:]:
        if others != records:
            differ = [(one, two) for one, two in zip(records, others) if one != two]
            lab.fail(
                f"{first.name} has {len(records)} records, {other.name} {len(others)}; "
                f"the first that differ: {json.dumps(differ[:1])[:3000]}"
            )
    return records


def set_offloads(it, state):
    for name, device in ((it.client, "wire0"), (it.server, "wire1")):
        it.ip(f"netns exec {name} ethtool -K {device} tso {state} gso {state} gro {state}")


def lines_of(path):
    found = [json.loads(line) for line in path.read_text().splitlines()]
    return [told for told in found if isinstance(told, dict)]


def expect(what, told, logged, of="exchanges"):
    """Both are counted by what they consist of."""
    told, logged = collections.Counter(told), collections.Counter(logged)
    if told != logged:
        missing, more = logged - told, told - logged
        lab.fail(
            f"{what}: {missing.total()} of {logged.total()} are missing, such as "
            f"{list(missing.items())[:5]}; "
            f"{more.total()} are too many, such as {list(more.items())[:5]}"
        )
    lab.say(f"    {what}: {logged.total()} {of} as logged")
