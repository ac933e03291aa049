"""The Debian package in minimal systems of Debian 12 and 13, booted with systemd on this machine's
kernel: its dependencies, its units, the service that captures, rotates and is sealed, an upgrade,
its removal and its purge."""

import os
import pathlib
import re
import subprocess

import lab
import service
import systems

SUITES = ("bookworm", "trixie")
UNIT, TEMPLATE = "httplines.service", "httplines@wire1.service"
SHIPPED = """
/usr/bin/httplines /usr/lib/systemd/system/httplines.service
/usr/lib/systemd/system/httplines@.service /usr/lib/sysusers.d/httplines.conf
/etc/httplines/httplines.toml /usr/share/man/man1/httplines.1.gz
/usr/share/bash-completion/completions/httplines /usr/share/zsh/vendor-completions/_httplines
/usr/share/fish/vendor_completions.d/httplines.fish /usr/share/doc/httplines/changelog.gz
/usr/share/doc/httplines/copyright /usr/share/doc/httplines/THIRD-PARTY-LICENCES.gz
/usr/share/doc/httplines/CHANGELOG.md.gz
/usr/share/doc/httplines/schema.json /usr/share/doc/httplines/stats.schema.json
""".split()
EXAMPLES = """logrotate rsyslog.conf rsyslog-unclean.conf vector.yaml fluent-bit.conf filebeat.yml
alerts.yml clickhouse.sql""".split()


def field(package, name):
    return subprocess.run(["dpkg-deb", "--field", package, name], check=True, text=True,
                          capture_output=True).stdout.strip()


def older(package, folder):
    """The same package with a lower version."""
    tree, made = folder / "older", folder / "older.deb"
    subprocess.run(["dpkg-deb", "--raw-extract", package, tree], check=True)
    control = tree / "DEBIAN/control"
    version = f"{field(package, 'Version')}~older"
    text, count = re.subn("^Version: .*$", f"Version: {version}", control.read_text(), flags=re.M)
    assert count == 1
    control.write_text(text)
    subprocess.run(["dpkg-deb", "--root-owner-group", "--build", tree, made], check=True,
                   stdout=subprocess.DEVNULL)
    return made


def installed(system):
    said = system.once("dpkg-query", "--show", "--showformat=${Package} ${db:Status-Abbrev}\n")
    return {line.split()[0] for line in said.splitlines() if line.endswith(" ii ")}


def install(system, package):
    """Installs as a person would, before the system is booted; returns what came with it."""
    before = installed(system)
    (system.upper / "root").mkdir(mode=0o700, exist_ok=True)
    system.give(package, "/root/older.deb")
    command = ("apt-get", "install", "--quiet", "--yes", "/root/older.deb")
    said = system.once(*command, may_fail=True)
    if "httplines" not in installed(system):
        # The lists are as old as the system that was kept.
        system.once("apt-get", "update", "--quiet")
        said = system.once(*command)
    if "systemctl enable --now httplines" not in said:
        lab.fail(f"{system.name}: the package does not say how to start:\n{said}")
    return installed(system) - before - {"httplines"}


def check_dependencies(system, package, came):
    """What the program loads is what the package depends on, and nothing else came with it."""
    # What libraries need in turn is their packages' concern.
    program = ["objdump", "--private-headers", systems.TARGET / "release/httplines"]
    headers = subprocess.run(program, check=True, capture_output=True, text=True).stdout
    loaded = set(re.findall(r"NEEDED +(\S+)", headers))
    paths = system.once("ldd", "/usr/bin/httplines").splitlines()
    paths = [line.split()[-2] for line in paths if pathlib.Path(line.split()[0]).name in loaded]
    if len(paths) != len(loaded):
        lab.fail(f"{system.name}: of {loaded} these are there: {paths}")
    # By the name alone: dpkg may know a file as /lib/..., which is /usr/lib/... on the disk.
    names = [pathlib.Path(system.once("realpath", path).strip()).name for path in paths]
    owners = {system.once("dpkg", "--search", f"*/{name}").split(":")[0] for name in names}
    depends = field(package, "Depends").split(", ")
    wanted = {name.split()[0] for name in depends if not name.startswith("systemd ")}
    # Debian 13 gave some libraries another name, which provides the old one.
    owners = {re.sub("t64$", "", name) for name in owners}
    if owners != wanted:
        lab.fail(f"{system.name}: the program loads libraries of {owners}; it depends on {wanted}")
    extra = {name for name in came if re.sub("t64$", "", name) not in wanted}
    if extra:
        lab.fail(f"{system.name}: these came with it, and nothing needs them: {extra}")


def check_files(system):
    said = system.run("dpkg", "--verify", "httplines")
    if said:
        lab.fail(f"{system.name}: dpkg --verify: {said}")
    wanted = SHIPPED + [f"/usr/share/doc/httplines/examples/{name}" for name in EXAMPLES]
    listed = system.run("dpkg", "--listfiles", "httplines").split()
    files = {name for name in listed if system.path(name).is_file()}
    if files != set(wanted):
        lab.fail(f"{system.name}: files differ from the test's list: {files ^ set(wanted)}")
    mode = system.run("stat", "--format=%U:%G %a", service.LOGS).strip()
    if mode != "httplines:httplines 750":
        lab.fail(f"{system.name}: {service.LOGS} is {mode}")


def check_service(system):
    """Disabled after the installation; enabled, it captures and rotates, sealed."""
    state = system.run("systemctl", "is-enabled", UNIT, may_fail=True).strip()
    if state != "disabled" or service.property_of(system, UNIT, "ActiveState") != "inactive":
        lab.fail(f"{system.name}: {UNIT} is {state} after the installation")
    service.configure(system, interface='["wire1"]', rotate_size='"64K"')
    system.run("systemctl", "enable", "--now", UNIT)
    service.check_sealed(system, UNIT)
    service.check_capture(system.wire, "first", system.path(service.LOGS))
    closed = len(list(system.path(service.LOGS).glob("http-*.jsonl*")))
    if closed == 0:
        lab.fail(f"{system.name}: no file was closed")
    before = service.property_of(system, UNIT, "MainPID")
    system.run("systemctl", "reload", UNIT)
    service.check_capture(system.wire, "reloaded", system.path(service.LOGS))
    if len(list(system.path(service.LOGS).glob("http-*.jsonl*"))) <= closed:
        lab.fail(f"{system.name}: a reload closed no file")
    if service.property_of(system, UNIT, "MainPID") != before:
        lab.fail(f"{system.name}: a reload ended the service")


def check_wrong_configuration(system):
    """A service whose configuration is wrong does not start, says so, and does not try again."""
    config = system.path(service.CONFIG)
    right = config.read_text()
    config.write_text(f"{right}\nno-such-key = 1\n")
    system.run("systemctl", "restart", UNIT, may_fail=True)
    result = service.property_of(system, UNIT, "ActiveState")
    said = service.journal(system, UNIT)
    if result != "failed" or "httplines.toml:" not in said or "no-such-key" not in said:
        lab.fail(f"{system.name}: with a wrong configuration {UNIT} is {result}:\n{said}")
    config.write_text(right)
    system.run("systemctl", "start", UNIT)



def check_upgrade(system, package):
    """Restarts what runs; the configuration stays as it was changed."""
    before = system.path(service.CONFIG).read_text()
    pid = service.property_of(system, UNIT, "MainPID")
    system.give(package, "/root/newer.deb")
    system.run("dpkg", "--install", "/root/newer.deb")
    service.await_active(system, UNIT)
    if service.property_of(system, UNIT, "MainPID") == pid:
        lab.fail(f"{system.name}: the upgrade left the old program running")
    if system.path(service.CONFIG).read_text() != before:
        lab.fail(f"{system.name}: the upgrade changed the configuration")
    service.check_sealed(system, UNIT)
    service.check_capture(system.wire, "upgraded", system.path(service.LOGS))


def check_template(system):
    """One service for an interface, beside the other; it ends when the interface is gone, and
    begins again when it is back."""
    system.run("systemctl", "enable", "--now", TEMPLATE)
    service.await_active(system, TEMPLATE)
    # It may fail, but does not: the name reaches check-config.
    checked = service.property_of(system, TEMPLATE, "ExecStartPre")
    if "code=exited ; status=0 " not in checked:
        lab.fail(f"{system.name}: the check before {TEMPLATE}: {checked}")
    service.check_sealed(system, TEMPLATE)
    service.check_capture(system.wire, "template", system.path(f"{service.LOGS}/wire1"))

    def state(unit):
        return service.property_of(system, unit, "ActiveState")

    def is_over():
        lab.await_that(f"{TEMPLATE} ends", lambda: state(TEMPLATE) == "inactive")

    # The other service goes on until it fails, and is then started again.
    before = service.property_of(system, UNIT, "MainPID")
    system.wire.remake_wire(is_over)
    lab.await_that(f"{UNIT} has another process",
                   lambda: service.property_of(system, UNIT, "MainPID") not in ("0", before))
    for unit in (TEMPLATE, UNIT):
        lab.await_that(f"{unit} begins again", lambda: state(unit) == "active")
    service.check_capture(system.wire, "again", system.path(f"{service.LOGS}/wire1"))


def check_removal(system):
    """Removing keeps what is the user's; purging keeps what is not httplines'."""
    system.run("dpkg", "--remove", "httplines")
    state = service.property_of(system, UNIT, "ActiveState")
    if state not in ("inactive", "failed"):
        lab.fail(f"{system.name}: {UNIT} is {state} after the removal:\n"
                 f"{service.journal(system, UNIT)[-2000:]}")
    logs = system.path(service.LOGS)
    kept = sorted(path.name for path in logs.iterdir())
    if not system.path(service.CONFIG).exists() or "http.jsonl" not in kept:
        lab.fail(f"{system.name}: the removal took the configuration or what was captured: {kept}")
    foreign = ["http-all.jsonl", "http2.stats", "notes.txt"]
    for name in foreign:
        (logs / name).write_text("not of httplines\n")
    # Somebody has put lines aside, with the owner that they had; and a folder that is empty yet.
    aside = logs / "incident-42/http-20260101T000000.000000Z.jsonl"
    aside.parent.mkdir()
    aside.write_text("")
    owner = logs.stat()
    os.chown(aside, owner.st_uid, owner.st_gid)
    (logs / "later").mkdir()
    foreign = sorted([*foreign, "incident-42", "later"])
    system.run("dpkg", "--purge", "httplines")
    rest = system.run("find", "/etc", "/usr", "/var", "-xdev", "-iname", "*httplines*",
                      "-not", "-path", "/var/log/journal/*").split()
    left = sorted(path.name for path in logs.iterdir())
    if rest != [service.LOGS] or left != foreign or not aside.exists():
        lab.fail(f"{system.name}: these are left: {rest}, {list(logs.iterdir())}")
    # Files elsewhere may be its own.
    system.run("id", "httplines")


def main():
    home = systems.TARGET / "debian"
    packages = sorted(home.glob("httplines_*.deb"))
    if len(packages) != 1:
        lab.fail(f"{home} has {len(packages)} packages: scripts/deb makes one")
    package = packages[0]
    for suite in SUITES:
        wire = lab.Lab()
        wire.start_nginx()
        system = systems.System(wire, suite)
        came = install(system, older(package, wire.folder))
        check_dependencies(system, package, came)
        system.boot()
        check_files(system)
        levels = [service.check_unit(system, unit) for unit in (UNIT, TEMPLATE)]
        check_service(system)
        check_wrong_configuration(system)
        check_upgrade(system, package)
        check_template(system)
        check_removal(system)
        system.end()
        wire.end()
        lab.say(f"  {system.name}: brought {', '.join(sorted(came)) or 'nothing else'};"
                f" systemd-analyze security says {levels[0]} and {levels[1]}")


main()
