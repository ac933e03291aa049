"""The binary for any Linux, installed as its README says into minimal systems of Debian 11, 12 and
13, booted with systemd on this machine's kernel: it captures there as a service."""

import re
import tarfile

import lab
import service
import systems

SUITES = ("bullseye", "bookworm", "trixie")
UNIT = "httplines.service"


def commands(readme, heading):
    """The indented commands below a heading or a bold word, without their comments."""
    text = readme[readme.index(heading):]
    block = re.search(r"(?:^    .*\n)+", text, re.M)[0].replace("\\\n", "")
    return [re.sub(r"\s+#.*$", "", line.strip()) for line in block.splitlines()]


def check(suite, archive):
    wire = lab.Lab()
    wire.start_nginx()
    system = systems.System(wire, suite)
    system.boot()
    with tarfile.open(archive) as files:
        files.extractall(system.path("/root"))
    folder = next(system.path("/root").glob("httplines-*"))
    readme = (folder / "README.md").read_text()
    begin = f"cd /root/{folder.name}; "
    for command in commands(readme, "## Install"):
        if command.startswith("editor"):
            service.configure(system, interface='["wire1"]', rotate_size='"64K"')
        else:
            system.run("sh", "-ec", begin + command)
    service.await_active(system, UNIT)
    service.check_sealed(system, UNIT)
    service.check_capture(system.wire, "portable", system.path(service.LOGS))
    # The upgrade: over the program that runs.
    install = commands(readme, "## Install")
    for command in (install[0], install[3], "systemctl restart httplines"):
        system.run("sh", "-ec", begin + command)
    service.await_active(system, UNIT)
    service.check_sealed(system, UNIT)
    libc = system.run("ldd", "--version").splitlines()[0].split()[-1]
    for command in ["systemctl disable --now httplines", *commands(readme, "**Remove**")]:
        system.run("sh", "-ec", begin + command)
    rest = system.run("find", "/etc", "/usr", "/var", "-xdev", "-iname", "*httplines*", "-not",
                      "-path", "/var/log/journal/*").split()
    if sorted(rest) != ["/etc/httplines", "/etc/httplines/httplines.toml", service.LOGS]:
        lab.fail(f"{system.name}: these are left: {rest}")
    system.end()
    wire.end()
    lab.say(f"  {system.name}, glibc {libc}: installed, captured {service.REQUESTS} exchanges,"
            " upgraded, removed")


def main():
    archives = list((systems.TARGET / "portable").glob("httplines-*.tar.gz"))
    if len(archives) != 1:
        lab.fail(f"there are {len(archives)} archives: scripts/tarball makes one")
    for suite in SUITES:
        check(suite, archives[0])


main()
