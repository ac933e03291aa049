"""What the integration tests share: a wire between two network namespaces, nginx at one end, wrk at
the other, and httplines that captures. All of it is gone when the program ends."""

import atexit
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
SERVER = "10.99.1.2"
# No step takes longer, unless something hangs.
WAIT_S = 60


def say(*words):
    print(*words, flush=True)


def fail(*words):
    say("FAILED:", *words)
    sys.exit(1)


def await_that(what, is_so, wait_s=WAIT_S, ended=()):
    """Waits until `is_so()`; fails if it takes too long, or if one of the processes `ended`."""
    until = time.monotonic() + wait_s
    while not is_so():
        for process in ended:
            if process.poll() is not None:
                fail(f"{process.args[0]} ended with {process.returncode} before {what}")
        if time.monotonic() > until:
            fail(f"waited {wait_s} s in vain until {what}")
        time.sleep(0.02)


class Lab:
    """Two namespaces with a veth pair between them, and a folder."""

    def __init__(self):
        self.processes = []
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="httplines-integration."))
        self.client, self.server = (f"integ-{os.getpid()}-{end}" for end in "cs")
        atexit.register(self.end)
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, lambda number, _: sys.exit(128 + number))
        self.namespaces = []
        for name in (self.client, self.server):
            self.add_namespace(name)
        self.make_wire()

    def make_wire(self):
        """Joins the two namespaces."""
        self.ip(f"link add wire0 netns {self.client} type veth peer name wire1 netns {self.server}")
        for name, device, address in (
            (self.client, "wire0", "10.99.1.1"),
            (self.server, "wire1", SERVER),
        ):
            self.ip(f"-n {name} addr add {address}/24 dev {device}")
            self.ip(f"-n {name} link set {device} up")

    def remake_wire(self, while_gone):
        """Takes the wire away, calls `while_gone()`, and makes a new one with the same names."""
        self.ip(f"-n {self.client} link del wire0")
        while_gone()
        self.make_wire()

    def add_namespace(self, name):
        """Makes a network namespace, which is gone at the end."""
        self.namespaces.append(name)
        self.ip(f"netns add {name}")

    def ip(self, arguments):
        subprocess.run(["ip", *arguments.split()], check=True)

    def start(self, namespace, command, said=None):
        """Starts a command, in a namespace if one is given; what it says goes to the file `said`."""
        enter = ["ip", "netns", "exec", namespace] if namespace else []
        output = open(self.folder / said, "ab") if said else subprocess.DEVNULL
        command = [str(word) for word in command]
        process = subprocess.Popen(
            enter + command, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        self.processes.append(process)
        return process

    def start_nginx(self):
        """Answers each request with five bytes; requests may be as long as httplines' lines."""
        (self.folder / "nginx.conf").write_text(
            f"""worker_processes 1; daemon off; master_process off;
            pid {self.folder}/nginx.pid; error_log {self.folder}/nginx.err;
            events {{ worker_connections 1024; }}
            http {{
                access_log off; keepalive_requests 1000000000;
                client_header_buffer_size 2k; large_client_header_buffers 8 32k;
                server {{ listen {SERVER}:80; location / {{ return 200 hello; }} }}
            }}"""
        )
        command = ["nginx", "-e", self.folder / "nginx.err", "-c", self.folder / "nginx.conf"]
        nginx = self.start(self.server, command, "nginx.out")
        pid = self.folder / "nginx.pid"
        await_that("nginx listens", lambda: pid.exists(), ended=[nginx])
        return nginx

    def start_httplines(self, arguments):
        """Captures at the server's end."""
        program = os.environ.get("HTTPLINES", ROOT / "target/release/httplines")
        said = self.folder / "httplines.err"
        httplines = self.start(self.server, [program, "-i", "wire1", *arguments], said.name)
        await_that(
            "httplines captures", lambda: "capturing on" in said.read_text(), ended=[httplines]
        )
        return httplines

    def start_wrk(self, connections, seconds, script):
        """Sends requests for a while; `script` is Lua, for wrk(1)."""
        (self.folder / "wrk.lua").write_text(script)
        options = f"-t 1 -c {connections} -d {seconds}s --timeout 30s".split()
        command = ["wrk", *options, "-s", self.folder / "wrk.lua", f"http://{SERVER}/"]
        return self.start(self.client, command, "wrk.out")

    def stop_httplines(self, httplines):
        """Ends it and returns its totals."""
        stop(httplines, signal.SIGINT)
        totals = (self.folder / "httplines.err").read_text()
        if httplines.returncode != 0 or "  sums       " not in totals:
            fail(f"httplines ended with {httplines.returncode}:\n{totals}")
        return totals

    def end(self):
        for process in self.processes:
            if process.poll() is None:
                # A stopped process hears of its end only when it goes on.
                process.kill()
                process.wait()
        for name in self.namespaces:
            subprocess.run(["ip", "netns", "del", name], stderr=subprocess.DEVNULL)
        shutil.rmtree(self.folder, ignore_errors=True)


def stop(process, number=signal.SIGTERM):
    process.send_signal(number)
    try:
        process.wait(WAIT_S)
    except subprocess.TimeoutExpired:
        fail(f"{process.args[0]} does not end within {WAIT_S} s")
