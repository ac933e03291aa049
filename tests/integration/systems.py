"""Minimal Debian systems: made by mmdebstrap and kept in target/systems, used under an overlay in
namespaces of their own, and booted there with systemd as their first process. They run on this
machine's kernel."""

import atexit
import os
import pathlib
import shutil
import subprocess
import time

import lab

TARGET = pathlib.Path(os.environ["HTTPLINES"]).parent.parent
# Beside the essential packages: the service manager, and who tells it of devices.
PACKAGES = "systemd-sysv,udev,ca-certificates"
# Part of a kept system's name: another number makes all of them anew.
EDITION = 1
# Begins a command that has its own mounts and processes, which end with the test, even if that is
# killed.
APART = "setpriv --pdeathsig KILL unshare --mount --pid --fork --kill-child".split()
NAMES = {"bullseye": "Debian 11", "bookworm": "Debian 12", "trixie": "Debian 13"}


def kept(suite):
    """The folder of a minimal system; it is made if it is not there yet."""
    folder = TARGET / "systems" / f"{suite}-{EDITION}"
    if folder.exists():
        return folder
    begun = time.monotonic()
    # The same source as for this machine's packages.
    sources = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"],
        capture_output=True, text=True,
    ).stdout.split()
    sources = [uri for uri in sources if "/debian/" in uri and "security" not in uri][:1]
    new = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    new.parent.mkdir(parents=True, exist_ok=True)
    said = new.with_name(f"{new.name}.log")
    command = ["mmdebstrap", "--mode=root", "--variant=minbase", f"--include={PACKAGES}",
               "--skip=cleanup/apt/lists", suite, new, *sources]
    with open(said, "wb") as output:
        made = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                              timeout=600)
    if made.returncode != 0:
        lab.fail(f"{NAMES[suite]} cannot be made:\n{said.read_text()[-2000:]}")
    # Never all devices of this machine at once.
    masked = new / "etc/systemd/system/systemd-udev-trigger.service"
    masked.symlink_to("/dev/null")
    new.rename(folder)
    lab.say(f"  {NAMES[suite]} was made in {time.monotonic() - begun:.0f} s")
    return folder


class System:
    """One Debian system. What a test changes is gone at its end."""

    def __init__(self, wire, suite):
        self.wire, self.name = wire, NAMES[suite]
        self.folder = wire.folder / suite
        self.upper, work, root = (self.folder / name for name in ("upper", "work", "root"))
        for folder in (self.upper, work, root):
            folder.mkdir(parents=True)
        script = lab.ROOT / "tests/integration/enter.sh"
        self.enter = ["sh", script, kept(suite), self.upper, work, root]
        self.apart = [*APART, "--uts", "--ipc", "--cgroup"]
        self.process = None
        # Before the wire's end.
        atexit.register(self.end)

    def once(self, *command, may_fail=False):
        """Runs a command in the system while it is not booted, with this machine's network."""
        return self.judge([*self.apart, *self.enter, *command], may_fail)

    def boot(self):
        """Starts systemd in the namespace of the wire's server."""
        self.cgroup = cgroups(self.wire.folder) / f"httplines-{os.getpid()}-{self.folder.name}"
        self.cgroup.mkdir()
        script = 'echo $$ >"$1/cgroup.procs"; shift; exec "$@"'
        command = ["sh", "-c", script, "sh", self.cgroup, *self.apart, *self.enter,
                   "/sbin/init", "--show-status=false"]
        self.process = self.wire.start(self.wire.server, command, f"{self.folder.name}.boot")
        self.init = child_of(self.process)
        comm = pathlib.Path(f"/proc/{self.init}/comm")
        lab.await_that(f"{self.name} boots", lambda: comm.read_text() == "systemd\n",
                       ended=[self.process])
        states = ("running\n", "degraded\n")
        ask = ("systemctl", "is-system-running")
        lab.await_that(f"{self.name} has booted", lambda: self.run(*ask, may_fail=True) in states,
                       ended=[self.process])
        # udev learns of the wire; it sees nothing else of this network namespace.
        self.run("udevadm", "trigger", "--action=add", "--subsystem-match=net")

    def run(self, *command, may_fail=False, text=None):
        """Runs a command in the booted system, and returns what it says."""
        environment = ["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C",
                       "DEBIAN_FRONTEND=noninteractive"]
        enter = ["nsenter", "--target", self.init, "--all", "--root", "--wd"]
        return self.judge([*enter, *environment, *command], may_fail, text)

    def judge(self, command, may_fail, text=None):
        done = subprocess.run([str(word) for word in command], input=text or "", text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120)
        if done.returncode != 0 and not may_fail:
            lab.fail(f"{self.name}: {' '.join(map(str, command))}: status {done.returncode}:\n"
                     f"{done.stdout[-3000:]}")
        return done.stdout

    def give(self, file, name):
        """Puts a file of this machine into the system."""
        place = self.path(name) if self.process else self.upper / name.lstrip("/")
        shutil.copy(file, place)

    def path(self, name):
        """A file of the booted system, as this machine sees it."""
        return pathlib.Path(f"/proc/{self.init}/root") / name.lstrip("/")

    def end(self):
        """Shuts down."""
        if self.process is None:
            return
        self.process.kill()
        self.process.wait()
        self.process = None
        for folder, _, _ in os.walk(self.cgroup, topdown=False):
            lab.await_that("a control group is empty", lambda: removed(folder))


def child_of(process):
    """The process that an unshare(1) has started, by its number here."""
    children = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children")
    lab.await_that("there is a first process", lambda: children.read_text(), ended=[process])
    return children.read_text().split()[0]


def removed(folder):
    try:
        os.rmdir(folder)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def cgroups(folder):
    """Where the second version of control groups is."""
    for line in pathlib.Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        if kind == "cgroup2":
            return pathlib.Path(place)
    lab.fail("no cgroup2 is mounted here: mount -t cgroup2 cgroup /sys/fs/cgroup")
