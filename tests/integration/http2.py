"""HTTP/2 in clear between real clients and servers: curl, h2load, nghttp and Node, nginx, nghttpd,
nghttpx and Node. Captured at both ends, with the filter and without, on one shard and on two, with
superpackets and without: all captures tell the same records, and they are what the peers logged.
Then captures that begin in the middle of a connection."""

import collections
import subprocess

import lab
from captures import comparable, end_with_the_same, expect, lines_of, set_offloads, start_captures

HERE = lab.pathlib.Path(__file__).resolve().parent
NGINX, NGINX_1, NGHTTPD, NGHTTPX, NODE = 8081, 8082, 8083, 8084, 8085


def start_servers(it):
    it.ip(f"-n {it.server} link set lo up")
    docs = it.folder / "docs"
    docs.mkdir()
    for size in (0, 1, 1000, 20_000, 300_000):
        (docs / str(size)).write_bytes(b"x" * size)
    (it.folder / "nginx.conf").write_text(
        f"""worker_processes 1; daemon off; master_process off; user root;
        pid {it.folder}/nginx.pid; error_log {it.folder}/nginx.err;
        events {{ worker_connections 1024; }}
        http {{
            log_format json escape=json '{{"method":"$request_method","target":"$request_uri",'
                '"status":$status,"sent":$body_bytes_sent,"got":"$content_length","port":$server_port}}';
            access_log {it.folder}/nginx.log json; keepalive_requests 100000;
            client_body_temp_path {it.folder}/body; client_max_body_size 0;
            server {{ listen {NGINX} http2; listen {NGINX_1}; root {docs};
                location /echo {{ client_body_buffer_size 8m; return 200 hello; }} }}
        }}"""
    )
    nginx = it.start(
        it.server,
        ["nginx", "-e", it.folder / "nginx.err", "-c", it.folder / "nginx.conf"],
        "nginx.out",
    )
    nghttpd = it.start(
        it.server, f"nghttpd --no-tls -a {lab.SERVER} -d {docs} {NGHTTPD}".split(), "nghttpd.out"
    )
    nghttpx = it.start(
        it.server,
        f"nghttpx -f {lab.SERVER},{NGHTTPX};no-tls -b 127.0.0.1,{NGINX_1} "
        f"--accesslog-file={it.folder}/nghttpx.log "
        "--conf=/dev/null --workers=1 --errorlog-file=/dev/null".split()
        + ["--accesslog-format=$method $path $status $body_bytes_sent"],
        "nghttpx.out",
    )
    it.start(
        it.server, ["node", HERE / "http2_peer.js", "serve", lab.SERVER, NODE], "node-server.log"
    )
    listening = lambda: subprocess.run(
        ["ip", "netns", "exec", it.server, "ss", "-Hltn"], capture_output=True, text=True
    ).stdout
    for port in (NGINX, NGINX_1, NGHTTPD, NGHTTPX, NODE):
        lab.await_that(
            f"port {port} is open",
            lambda: f":{port} " in listening(),
            ended=[nginx, nghttpd, nghttpx],
        )


def run(it, command, said):
    """Runs a client and waits for its end."""
    process = it.start(it.client, command, said)
    try:
        process.wait(lab.WAIT_S)
    except subprocess.TimeoutExpired:
        lab.fail(f"{command[0]} hangs")
    if process.returncode != 0:
        lab.fail(
            f"{command} ended with {process.returncode}: {(it.folder / said).read_text()[-2000:]}"
        )


def start_node(it, count, stdin):
    """Node's client makes so many exchanges, and as many again after a line on `stdin`."""
    node = subprocess.Popen(
        [
            "ip",
            "netns",
            "exec",
            it.client,
            "node",
            str(HERE / "http2_peer.js"),
            "drive",
            lab.SERVER,
            str(NODE),
            str(count),
        ],
        stdin=stdin,
        stdout=open(it.folder / "node-client.log", "ab"),
    )
    it.processes.append(node)
    return node


def drive(it):
    """Uses all servers."""
    at = f"http://{lab.SERVER}"
    curl = "curl -sS -m 10 -o /dev/null --http2-prior-knowledge".split()
    for port in (NGINX, NGHTTPD, NGHTTPX):
        # One each: with a second one on the connection, curl 7.88 fails.
        for size in (0, 1, 1000, 20_000, 300_000, 7):
            run(it, [*curl, f"{at}:{port}/{size}?curl"], "curl.out")
    run(it, [*curl, "-I", f"{at}:{NGINX}/1000?head"], "curl.out")
    # Upgrade: h2c, which only nghttpx takes; nginx goes on in HTTP/1.
    for port in (NGHTTPX, NGINX_1):
        run(
            it,
            ["curl", "-sS", "-o", "/dev/null", "--http2", f"{at}:{port}/20000?upgrade"],
            "curl.out",
        )
    # h2load: many streams at a time.
    (it.folder / "uris").write_text(
        "".join(
            f"{at}:{NGINX}/{size}?h2load={n}\n"
            for n, size in enumerate((0, 1, 1000, 20_000, 7) * 20)
        )
    )
    run(
        it,
        ["h2load", "-n", "3000", "-c", "6", "-m", "20", "-t", "1", "-i", it.folder / "uris"],
        "h2load.out",
    )
    for path in ("300000", "1000"):
        run(
            it,
            [
                "h2load",
                "-n",
                "400",
                "-c",
                "4",
                "-m",
                "10",
                "-t",
                "1",
                f"--log-file={it.folder}/h2load-{path}.log",
                f"{at}:{NGHTTPD}/{path}?h2load",
            ],
            "h2load.out",
        )
    # nghttp: priorities, padding, a header block that needs CONTINUATION, a small table.
    for options in (
        ["-n"],
        ["-n", "-b", "100"],
        ["-n", "-c", "0"],
        ["-n", "-H", "x-long: " + "z" * 30_000],
    ):
        run(it, ["nghttp", *options, f"{at}:{NGHTTPX}/1000?nghttp={len(options)}"], "nghttp.out")
    node = start_node(it, 300, subprocess.DEVNULL)
    node.wait(lab.WAIT_S)


def of_port(records, port):
    return [it for it in records if it["server_port"] == port]


def check(it, records):
    """The records are what the peers have logged."""
    for record in records:
        if record["server_port"] != NGINX_1 and record["version"] not in ("HTTP/2", "HTTP/1.1"):
            lab.fail(f"a version: {record}")
    shown = lambda it: (it["method"], it["target"], it["status"], it["response_body_bytes"])
    nginx = lines_of(it.folder / "nginx.log")
    of_nginx = lambda port: [shown_of_log(line) for line in nginx if line["port"] == port]
    shown_of_log = lambda line: (line["method"], line["target"], line["status"], line["sent"])
    expect("nginx", map(shown, of_port(records, NGINX)), of_nginx(NGINX))
    # nghttpx' requests to nginx do not come over the wire.
    nghttpx = [line.rsplit(" ", 3) for line in (it.folder / "nghttpx.log").read_text().splitlines()]
    expect(
        "nghttpx",
        map(shown, of_port(records, NGHTTPX)),
        [(method, target, int(status), int(sent)) for method, target, status, sent in nghttpx],
    )
    upgraded = [it for it in of_port(records, NGHTTPX) if it.get("upgraded") == "h2c"]
    if len(upgraded) != 1:
        lab.fail(f"upgraded: {len(upgraded)}")
    of_nghttpd = of_port(records, NGHTTPD)
    logged = [
        ("GET", f"/{path}?h2load", int(line.split("\t")[1]), int(path))
        for path in ("300000", "1000")
        for line in (it.folder / f"h2load-{path}.log").read_text().splitlines()
    ]
    expect("h2load", [shown(it) for it in of_nghttpd if "h2load" in it["target"]], logged)
    by_node = [it for it in of_port(records, NODE)]
    check_node(
        it, by_node, "node's client", "node-client.log", "request_body_bytes", "response_body_bytes"
    )
    check_node(
        it, by_node, "node's server", "node-server.log", "response_body_bytes", "request_body_bytes"
    )


CODES = {0: None, 7: "refused_stream", 8: "cancel"}


def check_node(it, records, what, log, sent, got):
    shown = lambda it: (
        it["method"],
        it["target"],
        it.get("status"),
        it.get("reset_code"),
        it.get(sent, 0),
        it.get(got, 0),
    )
    logged = [
        (it["method"], it["target"], it.get("status"), CODES[it["reset"]], it["sent"], it["got"])
        for it in lines_of(it.folder / log)
    ]
    expect(what, map(shown, records), logged)


def all_shapes(it, offloads):
    set_offloads(it, offloads)
    captures = start_captures(it, offloads, ["--all-headers"])
    drive(it)
    records = end_with_the_same(captures)
    lab.say(
        f"    offloads {offloads}: {len(records)} records, the same in {len(captures)} captures"
    )
    check(it, records)


def joined_late(it):
    """Captures that begin between two parts of a connection of Node."""
    for log in ("node-client.log", "node-server.log"):
        (it.folder / log).write_text("")
    node = start_node(it, 100, subprocess.PIPE)
    log = it.folder / "node-client.log"
    lab.await_that(
        "the first part is over", lambda: log.read_text().count('"done"') == 1, ended=[node]
    )
    captures = start_captures(it, "late", ["--all-headers"])
    log.write_text("")
    node.stdin.write(b"go\n")
    node.stdin.close()
    node.wait(lab.WAIT_S)
    records = end_with_the_same(captures, in_order_late)
    check_late(records, log)


def in_order_late(records):
    # `flow` has the time of the first payload, which each capture has of its own.
    return sorted(({**comparable(it), "flow": ""} for it in records), key=lambda it: it["n"])


def check_late(records, log):
    """Every exchange of the second part is there by its target, since Node puts no path into a
    table. A method or a status that the first part put there is absent, and counted as unknown, as
    is the length of a body behind such a status; nothing is wrong."""
    told = {record.get("target"): record for record in records}
    logged = {line["target"]: line for line in lines_of(log)}
    if told.keys() != logged.keys() or len(records) != len(logged):
        lab.fail(
            f"joined late: {len(records)} records for {len(logged)}: {told.keys() ^ logged.keys()}"
        )
    absent = collections.Counter()
    for target, line in logged.items():
        record = told[target]
        for name, truth in (
            ("method", line["method"]),
            ("status", line.get("status")),
            ("reset_code", CODES[line["reset"]]),
            ("request_body_bytes", line["sent"]),
            ("response_body_bytes", None if line["reset"] else line["got"]),
        ):
            is_unknown = (
                truth is not None
                and name in ("method", "status", "response_body_bytes")
                and name not in record
                and record.get("headers_unknown", 0) > 0
            )
            absent[name] += is_unknown
            if not is_unknown and truth is not None and record.get(name) != truth:
                lab.fail(f"joined late: {name} is {truth}: {record}")
    if absent["method"] + absent["status"] > len(logged) // 4:
        lab.fail(f"joined late: too much is unknown: {absent}")
    lab.say(
        f"    joined late: {len(logged)} exchanges as logged; of {absent['method']} the method is "
        f"unknown, of {absent['status']} the status"
    )


def main():
    for offloads in ("on", "off"):
        it = lab.Lab()
        start_servers(it)
        all_shapes(it, offloads)
        joined_late(it)
        it.end()


main()
