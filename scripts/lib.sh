# shellcheck shell=bash
# Shared by the scripts, which source it after `set -euo pipefail` and use its variables:
# shellcheck disable=SC2034

ROOT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
# Users other than root often lack the system's programs, and a fresh shell lacks cargo.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin:${CARGO_HOME:-${HOME:-/root}/.cargo}/bin

say() { printf '%s\n' "$*"; }
die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# The folder for cargo's output. libbpf's Makefile accepts no white space in a path. If the path has
# some, cargo uses a link without any; the link is the same in every run, so cargo finds its previous
# output there.
TARGET=${CARGO_TARGET_DIR:-$ROOT/target}
[[ $TARGET == /* ]] || TARGET=$PWD/$TARGET
if [[ $TARGET == *[[:space:]]* ]]; then
    link=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/httplines
    link=$link/target-$(cksum <<<"$TARGET" | cut -d' ' -f1)
    [[ $link != *[[:space:]]* ]] ||
        die 'libbpf cannot be built in a path with white space; set CARGO_TARGET_DIR to one without'
    mkdir -p -- "$TARGET" "${link%/*}"
    ln -sfn -- "$TARGET" "$link"
    TARGET=$link
fi
export CARGO_TARGET_DIR=$TARGET

# How to become root: nothing, or sudo. `can_root` fails if that needs a password and there is no
# terminal to ask for it.
SUDO=()
if ((EUID != 0)); then
    SUDO=(sudo -n)
    if [[ -t 0 && -t 2 ]]; then SUDO=(sudo); fi
fi
can_root() { ((EUID == 0)) || { command -v sudo >/dev/null && "${SUDO[@]}" true 2>/dev/null; }; }
as_root() { "${SUDO[@]}" "$@"; }

# Requirements: a program or a header, and its package on Debian, Fedora and Arch.
NEEDS_BUILD='
clang                        clang          clang                 clang
gcc                          gcc            gcc                   gcc
make                         make           make                  make
pkg-config                   pkg-config     pkgconf-pkg-config    pkgconf
/usr/include/stdio.h         libc6-dev      glibc-devel           glibc
/usr/include/linux/bpf.h     linux-libc-dev kernel-headers        linux-api-headers
/usr/include/libelf.h        libelf-dev     elfutils-libelf-devel libelf
/usr/include/zlib.h          zlib1g-dev     zlib-devel            zlib
'
NEEDS_DEMO='
ip                           iproute2       iproute               iproute2
nginx                        nginx-light    nginx                 nginx
curl                         curl           curl                  curl
'
NEEDS_LAB=$NEEDS_DEMO'
/bin/kill                    procps         procps-ng             util-linux
ethtool                      ethtool        ethtool               ethtool
nft                          nftables       nftables              nftables
wrk                          wrk            wrk                   wrk
tcpdump                      tcpdump        tcpdump               tcpdump
tmux                         tmux           tmux                  tmux
tshark                       tshark         wireshark-cli         wireshark-cli
node                         nodejs         nodejs                nodejs
'

# Prints the lines of a table of requirements that this machine does not meet.
missing() {
    local need packages
    while read -r need packages; do
        case $need in
        '') ;;
        /*) [[ -e $need ]] || say "$need $packages" ;;
        *) command -v "$need" >/dev/null || say "$need $packages" ;;
        esac
    done <<<"$1"
}

# Installs what is missing from a table of requirements. If it cannot, it says what to do and fails.
install_needs() {
    local absent family column packages
    absent=$(missing "$1")
    [[ -n $absent ]] || return 0
    family=$(sed -n 's/^ID\(_LIKE\)\?=//p' /etc/os-release 2>/dev/null | tr -d '"' | xargs || true)
    case " $family " in
    *' debian '* | *' ubuntu '*) column=2 ;;
    *' fedora '*) column=3 ;;
    *' arch '*) column=4 ;;
    *)
        say "These are missing; please install them: $(awk '{print $1}' <<<"$absent" | xargs)" >&2
        return 1
        ;;
    esac
    packages=$(awk -v column="$column" '{print $column}' <<<"$absent" | sort -u | xargs)
    if ((column == 2)) && can_root; then
        say "Installing: $packages (this may take minutes)"
        # shellcheck disable=SC2086
        apt_install $packages && [[ -z $(missing "$1") ]] && return 0
        say "The installation failed; please install: $packages" >&2
        return 1
    fi
    local how=([2]='apt-get install' [3]='dnf install' [4]='pacman -S')
    say "These packages are missing; please run as root: ${how[column]} $packages" >&2
    return 1
}

# Whether the distribution has a Debian package of this name.
is_offered() { command -v apt-cache >/dev/null && [[ -n $(apt-cache search --names-only "^$1\$") ]]; }

# Installs Debian packages quietly. No service is started: Debian asks policy-rc.d, which says no
# while this runs. The first attempt is made without an update, which most machines do not need.
apt_install() {
    as_root env DEBIAN_FRONTEND=noninteractive bash -s -- "$@" <<'EOS'
set -uo pipefail
policy=/usr/sbin/policy-rc.d
log=$(mktemp)
made_policy=
trap 'rm -f -- "$log" ${made_policy:+"$policy"}' EXIT
if [[ ! -e $policy ]]; then
    made_policy=yes
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi
apt=(timeout 600 apt-get -qq -o DPkg::Lock::Timeout=120 -o Acquire::Retries=3)
for _ in 1 2 3; do
    "${apt[@]}" install -y --no-install-recommends "$@" </dev/null >"$log" 2>&1 && exit 0
    "${apt[@]}" update </dev/null >>"$log" 2>&1
done
tail -n 20 "$log" >&2
exit 1
EOS
}

# Cargo and its compiler come from rustup or the distribution; the user chooses.
need_cargo() {
    local least version
    least=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' "$ROOT/Cargo.toml")
    command -v cargo >/dev/null ||
        die "cargo is missing; install Rust $least or later (https://rustup.rs)"
    version=$(rustc --version | cut -d' ' -f2) || die "rustc does not run: see above"
    [[ $(printf '%s\n' "$least" "$version" | sort -V | head -n 1) == "$least" ]] ||
        die "this is Rust $version; httplines needs $least or later (https://rustup.rs)"
}
