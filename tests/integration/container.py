"""The image that packaging/Containerfile describes, built by podman on a minimal Debian 13 and run
as packaging/daemonset.yaml says: its capabilities, its arguments, a read-only root, no new
privileges and the seccomp profile of a runtime. It captures on a wire, and answers its probe."""

import json
import os
import pathlib
import shutil
import subprocess

import lab
import service
import systems
import yaml

BASE = "docker.io/library/debian:13-slim"
NODE = "node-7"
# With control groups of the second version alone, which crun asks for.
APART = [*systems.APART, "--mount-proc", "sh", "-ec",
         'umount -R /sys/fs/cgroup; mount -t cgroup2 cgroup /sys/fs/cgroup; exec "$@"', "sh"]
# The runtime raises limits, which this machine may forbid.
LIMITS = ["--ulimit=nofile=4096:4096", "--ulimit=nproc=1000:1000"]


class Podman:
    """podman with a store of its own, which is gone at the end."""

    def __init__(self, wire):
        self.wire = wire
        places = [f"--root={wire.folder}/store", f"--runroot={wire.folder}/run"]
        self.command = [*APART, "podman", *places, "--cgroup-manager=cgroupfs",
                        "--events-backend=none"]

    def run(self, *arguments, given=None):
        command = [*map(str, self.command), *map(str, arguments)]
        done = subprocess.run(command, stdin=given or subprocess.DEVNULL, text=True, timeout=120,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if done.returncode != 0:
            lab.fail(f"podman {arguments[0]}: status {done.returncode}:\n{done.stdout[-2000:]}")
        return done.stdout


def import_base(podman):
    """A minimal Debian 13 under the name of the image that the Containerfile begins with."""
    root = systems.kept("trixie")
    unused = ["./var/lib/apt/lists", "./var/cache", "./usr/share/doc", "./usr/share/locale"]
    command = ["tar", "--create", f"--directory={root}"]
    command += [*(f"--exclude={name}" for name in unused), "."]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as tar:
        podman.run("import", "-", BASE, given=tar.stdout)


def profile(folder):
    """The seccomp profile of this machine's runtime, with the rules that containerd and Docker have
    had since 2022, and Debian 12's podman does not: bpf(2) with CAP_BPF, perf_event_open(2) with
    CAP_PERFMON. Other calls than the listed ones get EPERM, as there."""
    whole = json.loads(pathlib.Path("/usr/share/containers/seccomp.json").read_text())
    gated = {"bpf": "CAP_BPF", "perf_event_open": "CAP_PERFMON"}
    rules = []
    for rule in whole["syscalls"]:
        rule["names"] = [name for name in rule["names"] if name not in gated]
        if rule["names"]:
            rules.append(rule)
    for name, capability in gated.items():
        rules.append({"names": [name], "action": "SCMP_ACT_ALLOW", "args": [],
                      "includes": {"caps": [capability]}, "excludes": {}})
    whole |= {"syscalls": rules, "defaultErrnoRet": 1}
    (folder / "seccomp.json").write_text(json.dumps(whole))
    return folder / "seccomp.json"


def described(wire):
    """What daemonset.yaml says, as options of podman and arguments of the program."""
    documents = yaml.safe_load_all((lab.ROOT / "packaging/daemonset.yaml").read_text())
    kinds = {document["kind"]: document for document in documents}
    pod = kinds["DaemonSet"]["spec"]["template"]["spec"]
    [container] = pod["containers"]
    rights = container["securityContext"]
    told = (pod["hostNetwork"], rights["privileged"], rights["allowPrivilegeEscalation"],
            rights["readOnlyRootFilesystem"], rights["seccompProfile"])
    if told != (True, False, False, True, {"type": "RuntimeDefault"}):
        lab.fail(f"daemonset.yaml says {told}, and this test does not")
    options = ["--read-only", "--read-only-tmpfs=false", "--security-opt=no-new-privileges",
               f"--security-opt=seccomp={profile(wire.folder)}",
               f"--user={rights['runAsUser']}:{rights['runAsGroup']}"]
    options += [f"--cap-drop={name}" for name in rights["capabilities"]["drop"]]
    options += [f"--cap-add={name}" for name in rights["capabilities"]["add"]]
    text = kinds["ConfigMap"]["data"]["httplines.toml"]
    for ours, documented in (("wire1", "eth0"), ("64K", "1G")):
        if f'"{documented}"' not in text:
            lab.fail(f"the configuration in daemonset.yaml does not name {documented}")
        text = text.replace(f'"{documented}"', f'"{ours}"')
    folders = {"config": wire.folder / "config", "logs": wire.folder / "logs"}
    for folder in folders.values():
        folder.mkdir()
    (folders["config"] / "httplines.toml").write_text(text)
    for mount in container["volumeMounts"]:
        access = "ro" if mount.get("readOnly") else "rw"
        options.append(f"--volume={folders[mount['name']]}:{mount['mountPath']}:{access}")
    values = {"$(NODE_NAME)": NODE, "$(HOST_IP)": lab.SERVER}
    arguments = container["args"]
    for name, value in values.items():
        arguments = [argument.replace(name, value) for argument in arguments]
    probe = container["livenessProbe"]["httpGet"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    return options, arguments, f"http://{lab.SERVER}:{ports[probe['port']]}{probe['path']}"


def process_in(namespace):
    """The httplines in a network namespace, by its number."""
    wanted = os.stat(f"/run/netns/{namespace}").st_ino
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if (folder / "comm").read_text() == "httplines\n":
                if os.stat(folder / "ns/net").st_ino == wanted:
                    return folder
        except OSError:
            continue
    return lab.fail("there is no httplines in the container")


def main():
    [archive] = (systems.TARGET / "portable").glob("httplines-*.tar.gz")
    wire = lab.Lab()
    wire.start_nginx()
    podman = Podman(wire)
    import_base(podman)
    context = wire.folder / "context"
    context.mkdir()
    shutil.copy(archive, context)
    file = lab.ROOT / "packaging/Containerfile"
    podman.run("build", "--pull=never", "--network=host", "--isolation=chroot", "--file", file,
               "--tag", "httplines", context)
    options, arguments, probe = described(wire)
    said = wire.folder / "container.err"
    command = [*podman.command, "run", "--rm", "--cgroups=disabled", *LIMITS,
               f"--network=ns:/run/netns/{wire.server}", *options, "httplines", *arguments]
    running = wire.start(None, command, said.name)
    lab.await_that("the container captures or has ended",
                   lambda: "capturing on" in said.read_text() or running.poll() is not None)
    if running.poll() is not None:
        lab.fail(f"the container ended with {running.returncode}:\n{said.read_text()}")
    process = process_in(wire.server)
    service.check_threads(process / "task", "0")
    mounts = (process / "mountinfo").read_text().splitlines()
    [root] = [line.split() for line in mounts if line.split()[4] == "/"]
    if "ro" not in root[5].split(","):
        lab.fail(f"the root of the container is not read-only: {root}")
    service.check_capture(wire, "contained", wire.folder / "logs")
    if {line["sensor"] for line in service.lines_of(wire.folder / "logs")} != {NODE}:
        lab.fail("the lines do not name the node")
    answer = ["ip", "netns", "exec", wire.client, "curl", "-sS", "-w", " %{http_code}", probe]
    healthy = subprocess.run(answer, capture_output=True, text=True, timeout=20).stdout
    if not healthy.endswith(" 200"):
        lab.fail(f"the probe {probe} says {healthy}")
    os.kill(int(systems.child_of(running)), 15)
    if running.wait(lab.WAIT_S) != 0 or "every frame, flow and line" not in said.read_text():
        lab.fail(f"the container ended with {running.returncode}:\n{said.read_text()}")
    rights = [option for option in options if "cap" in option or "read-only" in option]
    lab.say(f"  captured {service.REQUESTS} exchanges with {' '.join(rights)}")


main()
