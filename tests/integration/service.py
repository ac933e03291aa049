"""What deb.py and tarball.py ask of the service in a booted system: that it starts as its unit
says, captures, rotates, is sealed, and is checked by systemd."""

import json
import re
import subprocess
import time

import lab

CONFIG = "/etc/httplines/httplines.toml"
LOGS = "/var/log/httplines"
REQUESTS = 200


def configure(system, **settings):
    """Changes the configuration as its reader would: each setting is there, maybe as a comment."""
    text = system.path(CONFIG).read_text()
    # Where the disk of this machine is nearly full, files would be deleted before they are read.
    text = re.sub(r"^keep-free = .*\n", "", text, flags=re.M)
    for key, value in settings.items():
        key = key.replace("_", "-")
        line = re.compile(rf"^(# *)?{key} = .*$", re.M)
        text, count = line.subn(f"{key} = {value}", text, count=1)
        if count != 1:
            lab.fail(f"{system.name}: the configuration has no {key}")
    system.path(CONFIG).write_text(text)


def property_of(system, unit, name):
    return system.run("systemctl", "show", "--value", f"--property={name}", unit).strip()


def journal(system, unit):
    return system.run("journalctl", "--quiet", "--no-pager", "--output=cat", f"--unit={unit}")


def await_active(system, unit):
    def state():
        return property_of(system, unit, "ActiveState")

    lab.await_that(f"{unit} has ended to start", lambda: state() not in ("activating", "inactive"))
    if state() != "active":
        lab.fail(f"{system.name}: {unit} is {state()}:\n{journal(system, unit)}")


def lines_of(folder):
    """The whole lines in the files of a folder, open, closed and compressed."""
    lines = []
    closed = {path.name.removesuffix(".zst") for path in folder.glob("http-*.jsonl*")}
    for name in ["http.jsonl", *sorted(closed)]:
        plain, packed = folder / name, folder / f"{name}.zst"
        # The plain one goes away once the other is whole.
        try:
            text = plain.read_text()
        except FileNotFoundError:
            done = subprocess.run(["zstd", "-dcq", packed], capture_output=True, check=True)
            text = done.stdout.decode()
        lines += [json.loads(line) for line in text.split("\n")[:-1]]
    return lines


def check_capture(wire, what, folder):
    """Sends requests over the wire; each must become one line, in the files of `folder`."""
    url = f"http://{lab.SERVER}/{what}/[1-{REQUESTS}]"
    curl = wire.start(wire.client, ["curl", "-sS", "-o", "/dev/null", url], "curl.err")
    if curl.wait(lab.WAIT_S) != 0:
        lab.fail(f"curl: {(wire.folder / 'curl.err').read_text()}")

    def found():
        return [line["target"] for line in lines_of(folder)
                if line["target"].startswith(f"/{what}/") and line["outcome"] == "complete"]

    wanted = sorted(f"/{what}/{number}" for number in range(1, REQUESTS + 1))
    until = time.monotonic() + lab.WAIT_S
    while len(found()) < REQUESTS and time.monotonic() < until:
        time.sleep(0.02)
    if sorted(found()) != wanted:
        others = [line for line in lines_of(folder) if line["outcome"] != "complete"]
        files = {path.name: path.stat().st_size for path in folder.iterdir()}
        statistics = (folder / "http.stats").read_text().splitlines()
        lab.fail(f"of {REQUESTS} requests {what}, {len(found())} have lines in {files};"
                 f" not complete: {others[:3]}; the sidecar ends with {statistics[-1:]}")


def check_sealed(system, unit):
    """All threads are those of the user and sealed, and the program did not say that anything of
    its sandbox is missing."""
    pid = property_of(system, unit, "MainPID")
    user = system.run("id", "-u", "httplines").strip()
    check_threads(system.path(f"/proc/{pid}/task"), user)
    # What is not restricted is said once at the start.
    said = journal(system, unit)
    for lack in ("not restricted", "Landlock", "io_uring", "CAP_"):
        if lack in said:
            lab.fail(f"{system.name}: {unit} lacks something:\n{said}")


def check_threads(folder, user):
    """Each thread in a folder of /proc is the user's, without a capability and under seccomp."""
    wanted = {"Uid": "\t".join([user] * 4), "NoNewPrivs": "1", "Seccomp": "2"}
    wanted |= {name: "0" * 16 for name in ("CapEff", "CapPrm", "CapInh", "CapAmb")}
    threads = list(folder.glob("*/status"))
    for path in threads:
        status = fields(path)
        wrong = {name: status[name] for name in wanted if status[name] != wanted[name]}
        if wrong:
            lab.fail(f"thread {status['Name']} in {folder} has {wrong}")
    if len(threads) < 4:
        lab.fail(f"{folder} has only {len(threads)} threads")


def fields(path):
    return dict(line.split(":\t", 1) for line in path.read_text().splitlines() if ":\t" in line)


def check_unit(system, unit, worst=2.0):
    """systemd finds nothing wrong with the unit, and rates it at most `worst`."""
    said = system.run("systemd-analyze", "verify", "--man=no", unit, may_fail=True)
    if said:
        lab.fail(f"{system.name}: systemd-analyze verify {unit}: {said}")
    command = ("systemd-analyze", "security", "--offline=true", "--no-pager", unit)
    said = system.run(*command)
    level = float(re.search(r"Overall exposure level for \S+: ([\d.]+)", said)[1])
    if level > worst:
        lab.fail(f"{system.name}: systemd-analyze security {unit}:\n{said}")
    return level
