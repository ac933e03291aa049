"""WebSocket between real clients and servers: Python's `websockets` and Node's `ws`, with and
without compression, directly, through nginx, and in the streams of HTTP/2. Captured at both ends,
with the filter and without, with elision and without, on one shard and on two, with superpackets and
without: all captures tell the same records, and they are what both ends of each talk have logged.
"""

import collections
import importlib.util
import os
import re
import subprocess
import sys

import captures
import lab

HERE = lab.pathlib.Path(__file__).resolve().parent
PYTHON, NODE, NODE_HTTP2, NGINX = 8091, 8092, 8093, 8094
OPTIONS = ["--records", "http,websocket"]
CAPTURES = [
    *captures.CAPTURES,
    ("server-1ms", 1, ["--shards", "1", "--retire-timeout-ms", "1", "--elide-min-bytes", "1"]),
    ("server-whole", 1, ["--shards", "1", "--no-elide"]),
]
# Name, program, port and further arguments of each client.
CLIENTS = [
    ("python-python", "py", PYTHON, []),
    ("python-node", "py", NODE, []),
    ("python-nginx", "py", NGINX, []),
    ("node-python", "js", PYTHON, []),
    ("node-node", "js", NODE, []),
    ("node-nginx", "js", NGINX, []),
    ("node-http2", "js", NODE_HTTP2, ["http2"]),
]


def check_peers():
    """Says what is missing before anything starts."""
    if importlib.util.find_spec("websockets") is None:
        lab.fail("Python has no package websockets; scripts/integration installs it from PyPI")
    try:
        known = subprocess.run(["node", "-e", "require('ws')"], capture_output=True)
    except FileNotFoundError:
        lab.fail("there is no node; please install nodejs")
    if known.returncode != 0:
        lab.fail("node has no package ws; scripts/integration installs it from npm")


def peer(kind):
    return (
        [sys.executable, HERE / "websocket_peer.py"]
        if kind == "py"
        else ["node", HERE / "websocket_peer.js"]
    )


def start_servers(it):
    it.ip(f"-n {it.server} link set lo up")
    (it.folder / "nginx.conf").write_text(
        f"""worker_processes 1; daemon off; master_process off; user root;
        pid {it.folder}/nginx.pid; error_log {it.folder}/nginx.err;
        events {{ worker_connections 1024; }}
        http {{
            access_log off; proxy_temp_path {it.folder}/proxy;
            client_body_temp_path {it.folder}/body;
            server {{ listen {lab.SERVER}:{NGINX}; location / {{
                proxy_pass http://{lab.SERVER}:{PYTHON}; proxy_http_version 1.1;
                proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade";
            }} }}
        }}"""
    )
    command = ["nginx", "-e", it.folder / "nginx.err", "-c", it.folder / "nginx.conf"]
    ends = [it.start(it.server, command, "nginx.out")]
    ends.append(it.start(it.server, [*peer("py"), "serve", lab.SERVER, PYTHON], "serve-py.log"))
    ends.append(
        it.start(it.server, [*peer("js"), "serve", lab.SERVER, NODE, NODE_HTTP2], "serve-js.log")
    )
    listening = lambda: subprocess.run(
        ["ip", "netns", "exec", it.server, "ss", "-Hltn"], capture_output=True, text=True
    ).stdout
    for port in (PYTHON, NODE, NODE_HTTP2, NGINX):
        lab.await_that(f"port {port} is open", lambda: f":{port} " in listening(), ended=ends)


def drive(it, offloads):
    """All clients at a time. The last talk of Python's ends with its process."""
    clients = [
        (name, kind, it.start(it.client, command, f"drive-{name}.log"))
        for name, kind, port, protocol in CLIENTS
        for command in [[*peer(kind), "drive", lab.SERVER, port, f"{name}-{offloads}", *protocol]]
    ]
    for name, kind, client in clients:
        try:
            client.wait(lab.WAIT_S)
        except subprocess.TimeoutExpired:
            lab.fail(f"the client of {name} hangs")
        if client.returncode != (-9 if kind == "py" else 0):
            said = (it.folder / f"drive-{name}.log").read_text()[-2000:]
            lab.fail(f"the client of {name} ended with {client.returncode}: {said}")


def logged_talks(it, offloads):
    """Both ends of each talk, by its target."""
    talks = collections.defaultdict(dict)
    logs = ["serve-py.log", "serve-js.log", *(f"drive-{name}.log" for name, *_ in CLIENTS)]
    for log in logs:
        for line in captures.lines_of(it.folder / log):
            if line["target"].split("/")[1].endswith(f"-{offloads}"):
                talks[line["target"]][line["role"]] = line
    return talks


def truth_of(talk):
    """What a record should say of a talk."""
    client, server = talk["drive"], talk["serve"]
    for one, other in ((client, server), (server, client)):
        if one["got"] != {kind: other["sent"][kind] for kind in one["got"]}:
            lab.fail(f"the peers do not agree: {talk}")
    close = client["close"]
    truth = {"subprotocol": client["subprotocol"] or None, "deflate": client["deflate"] or None}
    pings = client["sent"]["pings"] + server["sent"]["pings"]
    truth["pings"] = truth["pongs"] = pings
    for name, sent in (("client", client["sent"]), ("server", server["sent"])):
        truth[f"{name}_messages"] = sent["text"] + sent["binary"]
        truth[f"{name}_text"] = sent["text"]
        # Each pings, or answers one; and each closes.
        truth[f"{name}_frames"] = sent["frames"] + pings + (close is not None)
        if not client["deflate"]:
            truth[f"{name}_message_bytes"] = sent["bytes"]
    if close is None:
        return {**truth, "outcome": "truncated", "close_code": None}
    closed_by = "client" if close["by"] == "self" else "server"
    return {
        **truth,
        "outcome": "complete",
        "close_by": closed_by,
        "close_code": close["code"],
        "close_reason": close["reason"] or None,
        "end_reason": None,
    }


def check(it, offloads, records):
    """The records are what the peers have logged."""
    # What nginx says to Python does not come over the wire.
    told = {}
    for record in records:
        if record.get("type") == "websocket":
            if record["target"] in told:
                lab.fail(f"told twice: {record}")
            told[record["target"]] = record
    talks = logged_talks(it, offloads)
    if told.keys() != talks.keys():
        lab.fail(f"told, or logged, only: {told.keys() ^ talks.keys()}")
    for target, talk in talks.items():
        record = told[target]
        for name, value in truth_of(talk).items():
            if record.get(name) != value:
                lab.fail(f"{name} of {target} is {value}: {record}")
        if "/reset/" in target and record.get("end_reason") != "rst":
            lab.fail(f"it was reset: {record}")
    opened = [it for it in records if "type" not in it and it.get("target") in talks]
    statuses = {it["target"]: it["status"] for it in opened}
    if len(opened) != len(talks) or set(statuses.values()) != {101, 200}:
        lab.fail(f"{len(opened)} exchanges for {len(talks)} talks: {set(statuses.values())}")
    refused = [it["status"] for it in records if it.get("target", "").endswith("/refused")]
    # By websockets, also behind nginx; by ws; in a stream.
    if sorted(refused) != [401, 401, 403, 404, 404, 404, 404]:
        lab.fail(f"refused: {refused}")
    kinds = collections.Counter(target.split("/")[2] for target in talks)
    lab.say(f"    offloads {offloads}: {len(talks)} talks as logged, {dict(kinds)}")


def check_elision(all_captures):
    """Large messages stay in the kernel, but not where that is off."""
    for capture in all_captures:
        left = re.search(r"(\d+) bytes of bodies left in the kernel", capture.totals)
        left_bytes = int(left[1]) if left else 0
        is_off = any(f"-{kind}-" in capture.name for kind in ("off", "whole"))
        if is_off and left_bytes > 0 or "1ms" in capture.name and left_bytes < 1 << 20:
            lab.fail(f"{capture.name} left {left_bytes} bytes in the kernel:\n{capture.totals}")
        if "1ms" in capture.name:
            lab.say(f"    {capture.name}: {left_bytes} bytes left in the kernel")


def main():
    check_peers()
    for offloads in ("on", "off"):
        it = lab.Lab()
        start_servers(it)
        captures.set_offloads(it, offloads)
        started = captures.start_captures(it, offloads, OPTIONS, CAPTURES)
        drive(it, offloads)
        records = captures.end_with_the_same(started)
        lab.say(
            f"    offloads {offloads}: {len(records)} records, the same in {len(started)} captures"
        )
        check(it, offloads, records)
        check_elision(started)
        it.end()


main()
