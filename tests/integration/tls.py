"""TLS between real clients and servers: openssl, nginx and curl, versions 1.0 to 1.3, with all that
a handshake can do. Captured at both ends, with the filter and without, on one shard and on two, with
superpackets and without, and once more from a file: all captures tell the same records, and they are
what the peers have logged, and what tshark reads in the file.
"""

import collections
import datetime
import os
import re
import shutil
import subprocess
import sys

import captures
import lab

NGINX, OLD, RETRY, EARLY, ASKS, RAW, PROXY, MAIL = range(8441, 8449)
OPTIONS = ["--records", "http,tls"]
# No ciphers of a level that old versions do not reach.
LEVEL = "ALL:@SECLEVEL=0"
# Nor is anything left out by the system's settings.
os.environ["OPENSSL_CONF"] = os.devnull
VERSIONS = {"TLSv1.3": "1.3", "TLSv1.2": "1.2", "TLSv1.1": "1.1", "TLSv1": "1.0"}


def run(*command, cwd=None, said=None, says=b""):
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, capture_output=True, input=says,
        timeout=lab.WAIT_S,
    )
    if said is not None:
        said.write_bytes(done.stdout + done.stderr)
    return done


def run_until(path, *command, said):
    """Runs a client that keeps its connection until it has written `path`: its session."""
    with open(said, "wb") as log:
        client = subprocess.Popen(
            [str(word) for word in command], stdin=subprocess.PIPE, stdout=log, stderr=log
        )
        lab.await_that(f"there is {path.name}", lambda: path.exists() and path.stat().st_size > 0,
                       ended=[client])
        client.stdin.close()
        client.wait(lab.WAIT_S)


def check_peers():
    """Says what is missing before anything starts."""
    for program in ("openssl", "nginx", "curl", "tshark", "dumpcap"):
        if shutil.which(program) is None:
            lab.fail(f"there is no {program}; please install it")


def make_certificates(folder):
    """One of RSA and one of ECDSA, one that has expired, and one of a client."""

    conf = folder / "req.conf"
    conf.write_text("[req]\ndistinguished_name = none\n[none]\n")

    def make(name, key, *more):
        out = run(
            "openssl", "req", "-x509", "-newkey", *key, "-nodes", "-keyout", f"{name}.key",
            "-out", f"{name}.pem", "-config", conf, "-subj", f"/C=DE/O=Lab, Inc./CN={name}.lab.example", *more,
            cwd=folder,
        )
        if out.returncode != 0:
            lab.fail(f"openssl makes no certificate: {out.stderr.decode()}")

    ecdsa = ("ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")
    make("rsa", ("rsa:2048",), "-days", "30")
    make("ecdsa", ecdsa, "-days", "30")
    make("client", ecdsa, "-days", "30")
    # Only `ca` makes one that has expired.
    (folder / "ca.conf").write_text(
        f"""[ca]\ndefault_ca = own\n[own]\ndatabase = {folder}/ca.txt\nnew_certs_dir = {folder}
        serial = {folder}/ca.srl\ndefault_md = sha256\npolicy = any\nunique_subject = no
        [any]\ncommonName = supplied\n"""
    )
    (folder / "ca.txt").touch()
    (folder / "ca.srl").write_text("01\n")
    for command in (
        ["req", "-new", "-newkey", *ecdsa, "-nodes", "-keyout", "expired.key", "-out", "expired.csr",
         "-config", conf, "-subj", "/CN=expired.lab.example"],
        ["ca", "-config", "ca.conf", "-selfsign", "-keyfile", "expired.key", "-batch", "-notext",
         "-in", "expired.csr", "-out", "expired.pem", "-startdate", "20200101000000Z", "-enddate",
         "20200201000000Z"],
    ):
        out = run("openssl", *command, cwd=folder)
        if out.returncode != 0:
            lab.fail(f"openssl makes no certificate: {out.stderr.decode()}")


def start_servers(it):
    folder = it.folder
    make_certificates(folder)
    it.ip(f"-n {it.server} link set lo up")
    it.ip(f"-n {it.client} link set lo up")
    (folder / "nginx.conf").write_text(
        f"""worker_processes 1; daemon off; master_process off; user root;
        pid {folder}/nginx.pid; error_log {folder}/nginx.err;
        events {{ worker_connections 1024; }}
        http {{
            client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
            log_format tls '{{"port":$remote_port,"sni":"$ssl_server_name","version":"$ssl_protocol",'
                '"cipher":"$ssl_cipher","reused":"$ssl_session_reused","alpn":"$ssl_alpn_protocol",'
                '"bytes":$bytes_sent}}';
            access_log {folder}/nginx.log tls;
            server {{
                listen {lab.SERVER}:{NGINX} ssl http2;
                ssl_certificate {folder}/rsa.pem; ssl_certificate_key {folder}/rsa.key;
                ssl_certificate {folder}/ecdsa.pem; ssl_certificate_key {folder}/ecdsa.key;
                ssl_protocols TLSv1 TLSv1.1 TLSv1.2 TLSv1.3; ssl_ciphers {LEVEL};
                ssl_session_cache shared:a:1m; ssl_session_tickets on;
                location / {{ return 200 hello; }}
                location /large {{ alias {folder}/large; }}
            }}
        }}"""
    )
    (folder / "large").write_bytes(bytes(3_000_000))
    ends = [it.start(it.server, ["nginx", "-e", folder / "nginx.err", "-c", folder / "nginx.conf"],
                     "nginx.out")]

    def s_server(port, name, *more):
        command = ["openssl", "s_server", "-accept", f"{lab.SERVER}:{port}", "-www", "-cert",
                   folder / f"{name}.pem", "-key", folder / f"{name}.key", *more]
        ends.append(it.start(it.server, command, f"s_server-{port}.log"))

    s_server(OLD, "expired", "-cipher", LEVEL)
    s_server(RETRY, "ecdsa", "-groups", "P-384")
    s_server(ASKS, "rsa", "-Verify", "1", "-CAfile", folder / "client.pem", "-verify_return_error")
    # Early data is read by this one; -www reads none.
    command = ["openssl", "s_server", "-accept", f"{lab.SERVER}:{EARLY}", "-early_data", "-cert",
               folder / "ecdsa.pem", "-key", folder / "ecdsa.key", "-quiet"]
    ends.append(it.start(it.server, command, f"s_server-{EARLY}.log"))
    ends.append(it.start(it.server, [sys.executable, lab.pathlib.Path(__file__).parent /
                "tls_peer.py", lab.SERVER, RAW, PROXY, MAIL, NGINX, folder], "peer.log"))
    listening = lambda: run("ip", "netns", "exec", it.server, "ss", "-Hltn").stdout.decode()
    for port in (NGINX, OLD, RETRY, EARLY, ASKS, RAW, PROXY, MAIL):
        lab.await_that(f"port {port} is open", lambda: f":{port} " in listening(), ended=ends)


def cases(folder):
    """The name that each client asks for, its command, and what its record says."""
    target = f"{lab.SERVER}:{NGINX}"

    def client(port, *more):
        return ["openssl", "s_client", "-connect", f"{lab.SERVER}:{port}", "-quiet", *more]

    def curl(name, path="/", *more):
        host = f"{name}.lab.example"
        return ["curl", "-ksS", "-o", "/dev/null", "--resolve", f"{host}:{NGINX}:{lab.SERVER}",
                *more, f"https://{host}:{NGINX}{path}"]

    done = {"outcome": "complete"}
    with_rsa = {"certificate_cn": "rsa.lab.example",
                "certificate_issuer": "C=DE, O=Lab\\, Inc., CN=rsa.lab.example"}
    with_ecdsa = {"certificate_cn": "ecdsa.lab.example",
                  "certificate_issuer": "C=DE, O=Lab\\, Inc., CN=ecdsa.lab.example"}
    failed = {"outcome": "failed"}
    yield "curl-13-h2", curl("curl-13-h2"), {
        **done, "tls_version": "1.3", "alpn_offered": ["h2", "http/1.1"], "alpn": None,
        "certificate_cn": None}
    yield "curl-12-h2", curl("curl-12-h2", "/", "--tls-max", "1.2"), {
        **done, "tls_version": "1.2", "alpn": "h2", "resumed": False}
    yield "curl-12-rsa", curl("curl-12-rsa", "/", "--tls-max", "1.2", "--ciphers",
                              "ECDHE-RSA-AES128-GCM-SHA256", "--http1.1"), {
        **done, **with_rsa, "alpn": "http/1.1",
        "cipher": "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"}
    yield "curl-12-ecdsa", curl("curl-12-ecdsa", "/", "--tls-max", "1.2", "--ciphers",
                                "ECDHE-ECDSA-CHACHA20-POLY1305"), {
        **done, **with_ecdsa, "cipher": "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"}
    yield "curl-12-kx", curl("curl-12-kx", "/", "--tls-max", "1.2", "--ciphers",
                             "AES256-SHA256"), {
        **done, **with_rsa, "cipher": "TLS_RSA_WITH_AES_256_CBC_SHA256", "group": None}
    yield "curl-large", curl("curl-large", "/large"), {**done, "tls_version": "1.3"}
    yield "curl-large-12", curl("curl-large-12", "/large", "--tls-max", "1.2"), {
        **done, "tls_version": "1.2"}
    for version, told in (("1", "1.0"), ("1_1", "1.1")):
        yield f"old-{version}".replace("_", ""), [
            *client(OLD, f"-tls{version}", "-cipher", LEVEL, "-servername",
                    f"old-{version}.lab.example".replace("_", ""))], {
            **done, "tls_version": told, "certificate_cn": "expired.lab.example"}
    for version in ("1_2", "1_3"):
        name = f"resume{version}".replace("_", "")
        session, sni = folder / f"{name}.session", ["-servername", f"{name}.lab.example"]
        yield name, [*client(NGINX, f"-tls{version}", "-no_ign_eof", "-sess_out", session, *sni)], {
            **done, "resumed": False}
        yield f"{name}-again", [*client(NGINX, f"-tls{version}", "-sess_in", session, *sni)], {
            **done, "resumed": True, "certificate_cn": None}
    yield "retry", client(RETRY, "-groups", "X25519:P-384", "-servername", "retry.lab.example"), {
        **done, "hello_retry": True, "group": "secp384r1", "tls_version": "1.3"}
    early, sni = folder / "early.session", ["-servername", "early.lab.example"]
    yield "early", client(EARLY, "-no_ign_eof", "-sess_out", early, *sni), {
        **done, "early_data": None, "resumed": False}
    (folder / "early").write_text("hello, early\n")
    yield "early-again", client(EARLY, "-no_ign_eof", "-sess_in", early, "-early_data",
                                folder / "early", *sni), {
        **done, "early_data": True, "resumed": True}
    own = ["-cert", folder / "client.pem", "-key", folder / "client.key"]
    yield "asks-12", client(ASKS, "-tls1_2", *own, "-servername", "asks-12.lab.example"), {
        **done, **with_rsa, "client_certificate_cn": "client.lab.example"}
    yield "asks-13", client(ASKS, "-tls1_3", *own, "-servername", "asks-13.lab.example"), {
        **done, "client_certificate_cn": None}
    yield "asks-none", client(ASKS, "-tls1_2", "-servername", "asks-none.lab.example"), {
        **failed, "alert": "server:handshake_failure"}
    other = ["-cert", folder / "rsa.pem", "-key", folder / "rsa.key"]
    yield "asks-other", client(ASKS, "-tls1_2", *other, "-servername", "asks-other.lab.example"), {
        **failed, "alert": "server:unknown_ca", "client_certificate_cn": "rsa.lab.example"}
    yield "no-cipher", client(NGINX, "-tls1_2", "-cipher", "PSK-AES256-CBC-SHA", "-psk", "aa",
                              "-servername", "no-cipher.lab.example"), {
        **failed, "alert": "server:handshake_failure", "cipher": None}
    yield "no-version", client(RETRY, "-tls1", "-cipher", LEVEL, "-servername",
                               "no-version.lab.example"), {
        **failed, "alert": "server:internal_error", "tls_version": None}
    strict = ["-verify_return_error", "-verify", "1"]
    yield "unknown-ca-12", client(NGINX, "-tls1_2", *strict, "-CAfile", folder / "client.pem",
                                  "-servername", "unknown-ca-12.lab.example"), {
        **failed, "alert": "client:unknown_ca", **with_ecdsa}
    yield "unknown-ca-13", client(NGINX, "-tls1_3", *strict, "-CAfile", folder / "client.pem",
                                  "-servername", "unknown-ca-13.lab.example"), {
        # openssl's own is in clear.
        **failed, "alert": "client:unknown_ca", "tls_version": "1.3"}
    yield "expired", client(OLD, "-tls1_2", *strict, "-CAfile", folder / "expired.pem",
                            "-servername", "expired.lab.example"), {
        **failed, "alert": "client:certificate_expired", "certificate_cn": "expired.lab.example"}
    for name, port in (("raw", RAW), ("proxied", PROXY), ("mail", MAIL)):
        yield name, [sys.executable, lab.pathlib.Path(__file__).parent / "tls_peer.py", name,
                     lab.SERVER, port, f"{name}.lab.example"], (
            {"outcome": "no_server", "end_reason": "rst"} if name == "raw" else done)


def drive(it):
    """All clients, one after the other: what each says is kept."""
    expected = collections.defaultdict(dict)
    for name, command, told in cases(it.folder):
        expected[f"{name.removesuffix('-again')}.lab.example"][name] = told
        command, said = ["ip", "netns", "exec", it.client, *command], it.folder / f"client-{name}.log"
        if "-sess_out" in command:
            run_until(command[command.index("-sess_out") + 1], *command, said=said)
        else:
            run(*command, said=said, says=b"GET / HTTP/1.0\r\n\r\n")
    return expected


def check_records(it, expected, records):
    told = collections.defaultdict(list)
    for record in records:
        if record.get("type") == "tls":
            told[record.get("sni")].append(record)
    for sni, named in expected.items():
        if len(told[sni]) != len(named):
            lab.fail(f"{len(told[sni])} records for {list(named)}: {told[sni]}")
        for name, wanted in named.items():
            fits = lambda record: all(record.get(key) == value for key, value in wanted.items())
            if sum(map(fits, told[sni])) != 1:
                said = (it.folder / f"client-{name}.log").read_text(errors="replace")[-800:]
                lab.fail(f"{name} is {wanted}: {told[sni]}\n{said}")
    lab.say(f"    {sum(map(len, expected.values()))} handshakes as expected")
    return [record for of_one in told.values() for record in of_one]


def check_nginx(it, records):
    """Each connection that nginx has logged, by the port of its client."""
    by_port = {record["client_port"]: record for record in records}
    names = dict(line.split() for line in
                 re.sub(" +- +", " ", "\n".join(
                     re.findall(r"TLS_\S+ +- +\S+", run(
                         "openssl", "ciphers", "-stdname", LEVEL).stdout.decode())
                 )).splitlines())
    ours = {openssl: standard for standard, openssl in names.items()}
    logged = {line["port"]: line for line in captures.lines_of(it.folder / "nginx.log")}
    for port, line in logged.items():
        record = by_port.get(port)
        if record is None:
            continue
        for key, value in {
            "sni": line["sni"], "tls_version": VERSIONS[line["version"]],
            "cipher": ours.get(line["cipher"], line["cipher"]),
            "resumed": line["reused"] == "r",
        }.items():
            if record.get(key) != value:
                lab.fail(f"{key} is {value} by {line}: {record}")
        if record["tls_version"] != "1.3" and record.get("alpn", "-") != (line["alpn"] or "-"):
            lab.fail(f"alpn: {line}, {record}")
        if record.get("server_bytes", line["bytes"]) < line["bytes"]:
            lab.fail(f"nginx sent more: {line}, {record}")
    lab.say(f"    {len(logged)} connections as nginx logged them")


def check_tshark(it, records):
    """What tshark reads of the same packets."""
    fields = ["tcp.stream", "tcp.srcport", "tls.handshake.type",
              "tls.handshake.extensions_server_name", "tls.handshake.ja3", "tls.handshake.ja3s",
              "tls.handshake.ciphersuite"]
    command = ["tshark", "-r", it.folder / "wire.pcapng", "-Y", "tls.handshake.type in {1,2}",
               "-d", f"tcp.port=={NGINX}-{MAIL},tls", "-T", "fields", "-E", "separator=|",
               "-E", "occurrence=f"]
    for field in fields:
        command += ["-e", field]
    seen = collections.defaultdict(dict)
    for line in run(*command).stdout.decode().splitlines():
        stream, port, kind, sni, ja3, ja3s, cipher = line.split("|")
        key = {"1": "client", "2": "server"}[kind]
        if key == "client":
            seen[stream].setdefault("client", (int(port), sni, ja3))
        else:
            seen[stream]["server"] = (ja3s, cipher)
    by_port = {record["client_port"]: record for record in records}
    count = 0
    for hellos in seen.values():
        port, sni, ja3 = hellos["client"]
        record = by_port.get(port)
        if record is None:
            continue
        if (record.get("sni", ""), record.get("ja3")) != (sni, ja3):
            lab.fail(f"tshark reads {hellos}: {record}")
        if "server" in hellos and record.get("ja3s") not in (None, hellos["server"][0]):
            lab.fail(f"tshark reads {hellos}: {record}")
        count += 1
    if count < len(records) - 3:
        lab.fail(f"tshark reads {count} of {len(records)} connections")
    lab.say(f"    {count} connections as tshark reads them")


def check_dates(it, records):
    """The dates in a certificate are those that openssl reads."""
    out = run("openssl", "x509", "-in", it.folder / "ecdsa.pem", "-noout", "-dates",
              "-fingerprint", "-sha256").stdout.decode()
    form = "%b %d %H:%M:%S %Y %Z"
    dates = [datetime.datetime.strptime(it, form).strftime("%Y-%m-%dT%H:%M:%SZ")
             for it in re.findall(r"not\w+=(.*)", out)]
    digest = re.search(r"=([0-9A-F:]{95})", out)[1].replace(":", "").lower()
    wanted = [*dates, digest]
    of_ecdsa = [r for r in records if r.get("certificate_cn") == "ecdsa.lab.example"]
    for record in of_ecdsa:
        found = [record[f"certificate_{key}"] for key in ("not_before", "not_after", "sha256")]
        if found != wanted:
            lab.fail(f"openssl reads {wanted}: {record}")
    if not of_ecdsa:
        lab.fail("no certificate of ECDSA was told")


def main():
    check_peers()
    for offloads in ("on", "off"):
        it = lab.Lab()
        start_servers(it)
        captures.set_offloads(it, offloads)
        dump = it.start(it.server, ["dumpcap", "-q", "-i", "wire1", "-w",
                                    it.folder / "wire.pcapng"], "dumpcap.log")
        lab.await_that("dumpcap captures", lambda: (it.folder / "wire.pcapng").exists(),
                       ended=[dump])
        started = captures.start_captures(it, offloads, OPTIONS)
        expected = drive(it)
        records = captures.end_with_the_same(started)
        lab.stop(dump)
        lab.say(f"    offloads {offloads}: {len(records)} records, the same in {len(started)} captures")
        tls = check_records(it, expected, records)
        check_nginx(it, tls)
        check_dates(it, tls)
        check_tshark(it, tls)
        it.end()


main()
