"""rsyslog follows the files of httplines through 100 rotations under load, as docs/rsyslog.conf has
it: into a file, and into a broker that speaks Kafka's protocol. It is stopped for two seconds, and
killed and started again, after what docs/rsyslog-unclean.conf says. No line may be missing or torn
(but for the one that rsyslog writes to its file when it is killed), and what is there twice must be
what `(type, flow, n)` removes."""

import collections
import json
import re
import signal
import time

import lab
import shipping

ROTATIONS = 100
# Rotations after which rsyslog is stopped, and killed.
STOP_AT, KILL_AT = 30, 60
STOPPED_S = 2
DOWN_S = 1
# 64 connections with a pause of 10 ms between two requests. Some requests give lines of 9 KiB.
LOAD = """
local count, long = 0, string.rep("y", 7000)
function request()
    count = count + 1
    if count % 500 == 0 then
        return wrk.format("GET", "/r/" .. count .. "?q=" .. long, { ["User-Agent"] = long })
    end
    return wrk.format("GET", "/r/" .. count)
end
function delay() return 10 end
"""


def is_cut(line, wanted):
    """Whether it is the beginning of a line and a whole one: rsyslog was killed between two writes
    of a long line to its file, and begins with the next one where it ended."""
    begins = line.rfind(b'{"ts":')
    return begins > 0 and line[begins:] in wanted and any(it.startswith(line[:begins]) for it in wanted)


def judge(where, found, wanted):
    """Compares lines with those in the files; prints the figures and returns what is wrong."""
    twice = collections.Counter(found)
    missing = sum(1 for line in wanted if line not in twice)
    torn = [line for line in twice if line not in wanted and not is_cut(line, wanted)]
    if sum(is_cut(line, wanted) for line in twice) > 1:
        torn.append(b"more than one that the kill has cut")
    again = len(found) - len(twice)
    lab.say(
        f"  {where}: {len(found)} lines, {missing} missing, {len(torn)} torn or unknown,"
        f" {again} again"
    )
    keys = {(line["type"] if "type" in line else "", line["flow"], line["n"]) for line in
            (json.loads(line) for line in twice if line in wanted)}
    wrong = []
    if missing:
        wrong.append(f"{missing} lines are not in {where}")
    if torn:
        wrong.append(f"{where} has {len(torn)} torn lines, such as {torn[0][:200]}")
    if len(keys) != len(wanted) - missing:
        wrong.append(f"{where} has {len(keys)} different (type, flow, n)")
    return wrong


def main():
    wire = lab.Lab()
    out = wire.folder / "out"
    out.mkdir()
    broker, brokers = shipping.start_broker(wire)
    consumer = shipping.Follower(brokers, "http")
    wire.start_nginx()
    arguments = ["-o", out / "http.jsonl", "--rotate-size", "512K"]
    httplines = wire.start_httplines(arguments)
    rsyslog = shipping.Rsyslog(wire, wire.folder, brokers)
    begun = time.monotonic()
    load = wire.start_wrk(64, 600, LOAD)

    def closed():
        return sum(1 for _ in out.glob("http-*.jsonl"))

    def await_rotations(count):
        running = [httplines, load, rsyslog.process, broker]
        lab.await_that(f"{count} files are closed", lambda: closed() >= count, 300, running)

    await_rotations(STOP_AT)
    before = closed()
    rsyslog.process.send_signal(signal.SIGSTOP)
    time.sleep(STOPPED_S)
    rsyslog.process.send_signal(signal.SIGCONT)
    lab.say(f"  stopped for {STOPPED_S} s, in which {closed() - before} files were closed")
    await_rotations(KILL_AT)
    before = closed()
    rsyslog.process.kill()
    rsyslog.process.wait()
    rsyslog.clean_up("signal")
    time.sleep(DOWN_S)
    lab.say(f"  killed, and away for {DOWN_S} s, in which {closed() - before} files were closed")
    rsyslog.begin()
    await_rotations(ROTATIONS)
    lab.stop(load, signal.SIGINT)
    seconds = time.monotonic() - begun
    # The last requests are still on their way to the file.
    time.sleep(1)
    totals = wire.stop_httplines(httplines)
    rotations = closed()
    lines = [line for path in sorted(out.glob("http*.jsonl")) for line in
             path.read_bytes().split(b"\n") if line]
    wanted = set(lines)
    lab.say(f"  {rotations} rotations in {seconds:.0f} s: {len(lines)} lines,"
            f" {len(lines) / seconds:.0f} a second, the longest has {max(map(len, lines))} bytes")
    written = re.search(r"  written +(\d+) lines, \d+ bytes, (\d+) lines lost", totals)
    wrong = []
    if (int(written[1]), int(written[2])) != (len(lines), 0) or len(wanted) != len(lines):
        wrong.append(f"the files have {len(lines)} lines, {len(wanted)} different; {written[0]}")
    if max(map(len, lines)) <= 8192:
        wrong.append("no line is longer than what rsyslog splits by default")
    lab.await_that("rsyslog has read all", lambda: wanted.issubset(rsyslog.lines()), 60,
                   [rsyslog.process])
    # Ends when it has told Kafka all.
    lab.stop(rsyslog.process)
    quiet, count = time.monotonic(), -1
    while time.monotonic() - quiet < 3 and not consumer.error:
        if len(consumer.lines) != count:
            quiet, count = time.monotonic(), len(consumer.lines)
        time.sleep(0.05)
    consumer.is_over = True
    consumer.join(10)
    if consumer.error:
        wrong.append(f"the consumer: {consumer.error}")
    *found, rest = rsyslog.lines()
    if rest:
        wrong.append(f"the file ends with a torn line: {rest[:200]}")
    wrong += judge("rsyslog's file", found, wanted)
    wrong += judge("Kafka", consumer.lines, wanted)
    if wrong:
        lab.say((wire.folder / "rsyslog.err").read_text()[-2000:])
        lab.fail("; ".join(wrong))


main()
