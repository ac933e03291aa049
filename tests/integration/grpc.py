"""gRPC between grpcio's client and server: unary calls, streams of all kinds, errors, deadlines,
cancellations, metadata and compression. Captured at both ends, with the filter and without, on one
shard and on two, with superpackets and without: all captures tell the same records, and they are
what the peers logged."""

import json
import os
import re
import signal
import subprocess
import sys

import lab

HERE = lab.pathlib.Path(__file__).resolve().parent
ADDRESS = f"{lab.SERVER}:50051"
# What a capture does not have in common with another one.
OF_ONE_CAPTURE = {"ts", "iface", "retransmitted_bytes"}
# What depends on which packets crossed on the wire where they were captured. It is compared with
# what the peers logged only.
CROSSED = {"early_response", "reset_by", "reset_code"}
# Of calls that one side ends while the other goes on.
CUT = {
    "outcome",
    "end_reason",
    "status",
    "response_content_type",
    "response_headers",
    "response_trailers",
    "request_body_bytes",
    "response_body_bytes",
    "grpc_status",
    "grpc_message",
    "grpc_request_messages",
    "grpc_response_messages",
}
CUT_KINDS = ("deadline", "cancel", "early", "late", "missing")
CAPTURES = [
    ("server", 1, ["--shards", "1"]),
    ("server-off", 1, ["--shards", "2", "--filter", "off"]),
    ("client", 0, ["--shards", "2"]),
    ("client-whole", 0, ["--shards", "1", "--no-elide"]),
]


class Capture:
    """One capture, at the client's end (0) or at the server's (1)."""

    def __init__(self, it, name, end, options):
        self.it, self.name = it, name
        self.lines, self.said = it.folder / f"{name}.jsonl", it.folder / f"{name}.err"
        program = os.environ.get("HTTPLINES", lab.ROOT / "target/release/httplines")
        command = [program, "-i", f"wire{end}", "-B", "32768", "--all-headers", "-o", self.lines]
        self.process = it.start((it.client, it.server)[end], [*command, *options], self.said.name)
        lab.await_that(
            f"capture {name} begins",
            lambda: "capturing on" in self.said.read_text(),
            ended=[self.process],
        )

    def end(self):
        lab.stop(self.process, signal.SIGINT)
        totals = self.said.read_text()
        if self.process.returncode != 0 or "  sums       every" not in totals:
            lab.fail(f"{self.name} ended with {self.process.returncode}:\n{totals}")
        if re.search(r"\+ [1-9]\d* dropped by kernel", totals):
            lab.fail(f"{self.name} lost frames, so nothing can be compared:\n{totals}")
        records = [json.loads(line) for line in self.lines.read_text().splitlines()]
        return sorted(records, key=lambda record: (record["flow"], record["n"]))


def comparable(record):
    kind = record["target"].split("/")[-1].split("-")[0]
    left_out = OF_ONE_CAPTURE | CROSSED | (CUT if kind in CUT_KINDS else set())
    return {
        key: value
        for key, value in record.items()
        if key not in left_out and not key.endswith("_ns")
    }


def logged(path):
    # The server also says what its handlers raise.
    lines = [line for line in path.read_text().splitlines() if line.startswith("{")]
    return {call["target"]: call for call in map(json.loads, lines)}


def check(record, call, served):
    """The record of a call is what both peers logged."""
    kind = call["kind"]
    if kind in ("deadline", "cancel"):
        # The client's code is its own: it is told only if the server has sent it.
        is_reset = record.get("reset_code") == "cancel"
        if record.get("grpc_status") not in (None, call["code"]):
            return "status"
        if kind == "cancel" and (not is_reset or record["reset_by"] != "client"):
            return "who cancelled it"
        if kind == "deadline" and not is_reset and record.get("grpc_status") != call["code"]:
            return "how it ended"
        return None if record["grpc_request_messages"] == call["sent"] else "requests"
    for key, truth in (
        ("grpc_status", call["code"]),
        ("grpc_message", call["details"]),
        ("grpc_response_messages", call["got"]),
        ("grpc_encoding", "gzip" if kind == "gzip" else None),
        ("outcome", "complete"),
    ):
        if (record.get(key) or None) != (truth or None):
            return key
    if kind in ("early", "missing", "late"):
        # The server does not wait for the end of the request, nor even for its beginning.
        got = served["got"] if served else 0
        if not got <= record["grpc_request_messages"] <= call["sent"]:
            return "requests of a call that was ended early"
        end = (record.get("reset_by"), record.get("reset_code"))
        if end not in ((None, None), ("server", "no_error")) or kind == "early" and not end[0]:
            return "who ended it early"
    elif record["grpc_request_messages"] != call["sent"]:
        return "grpc_request_messages"
    elif served and served["got"] != call["sent"]:
        return "what the server got"
    if not isinstance(record.get("duration_ns"), int):
        return "duration_ns"
    trailers = dict(pair[:2] for pair in record.get("response_trailers", []))
    if trailers.get("x-trailing") != call["trailing"]:
        return "trailers"
    sent = dict(pair[:2] for pair in record["request_headers"])
    if kind == "meta" and (sent["x-own"], sent["authorization"]) != ("1", "***"):
        return "metadata"
    return None


def all_shapes(it, offloads):
    for namespace, device in ((it.client, "wire0"), (it.server, "wire1")):
        it.ip(
            f"netns exec {namespace} ethtool -K {device} "
            f"tso {offloads} gso {offloads} gro {offloads}"
        )
    # Isolated: or else it would import this file in place of the package.
    peer = [sys.executable, "-I", HERE / "grpc_peer.py"]
    server = it.start(it.server, [*peer, "serve", ADDRESS], "server.log")
    listening = lambda: subprocess.run(
        ["ip", "netns", "exec", it.server, "ss", "-Hltn"], capture_output=True, text=True
    ).stdout
    lab.await_that("the server listens", lambda: ":50051 " in listening(), ended=[server])
    captures = [Capture(it, name, end, options) for name, end, options in CAPTURES]
    client = it.start(it.client, [*peer, "drive", ADDRESS], "client.log")
    try:
        client.wait(lab.WAIT_S)
    except subprocess.TimeoutExpired:
        lab.fail("the client hangs")
    if client.returncode != 0:
        lab.fail(f"the client failed: {(it.folder / 'client.log').read_text()[-2000:]}")
    told = [(capture, capture.end()) for capture in captures]
    lab.stop(server)
    first, records = told[0]
    for other, others in told[1:]:
        if list(map(comparable, others)) != list(map(comparable, records)):
            differ = [
                (one, two)
                for one, two in zip(records, others)
                if comparable(one) != comparable(two)
            ]
            lab.fail(
                f"{first.name} has {len(records)} records, {other.name} {len(others)}; "
                f"the first that differ: {json.dumps(differ[:1])[:3000]}"
            )
    calls = logged(it.folder / "client.log")
    served = logged(it.folder / "server.log")
    if len(records) != len(calls):
        lab.fail(f"{len(records)} records of {len(calls)} calls")
    for _, records in told:
        for record in records:
            call = calls[record["target"]]
            wrong = check(record, call, served.get(call["target"]))
            if wrong:
                lab.fail(f"{wrong}: {json.dumps(call)} {json.dumps(record)[:2000]}")
    lab.say(f"    offloads {offloads}: {len(calls)} calls as logged, in {len(told)} captures")


def main():
    for offloads in ("on", "off"):
        it = lab.Lab()
        all_shapes(it, offloads)
        it.end()


main()
