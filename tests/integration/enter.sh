#!/bin/sh
# The first process of a Debian system in namespaces of its own: puts LOWER, with what changes in
# UPPER, under ROOT, makes it the root of everything, and becomes COMMAND there. systems.py calls it
# within unshare(1).
#
#   enter.sh LOWER UPPER WORK ROOT COMMAND...
set -eu
lower=$1 upper=$2 work=$3 root=$4
shift 4

hostname sensor
mount --make-rprivate /
mount -t overlay -o "lowerdir=$lower,upperdir=$upper,workdir=$work" overlay "$root"
# Of the machine's network, what the system needs to install packages.
for file in /etc/resolv.conf /etc/hosts; do
    [ ! -s "$file" ] || cat "$file" >"$root$file"
done
mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
# Only what is in this network namespace; udev needs to write to it.
mount -t sysfs -o nosuid,nodev,noexec sys "$root/sys"
mount -t cgroup2 -o nosuid,nodev,noexec cgroup "$root/sys/fs/cgroup"
mount -t tmpfs -o nosuid,nodev,mode=755 run "$root/run"
# systemd asks at its start whether there will be a udev: by this file, or by a devtmpfs.
mkdir "$root/run/udev"
: >"$root/run/udev/control"
mount -t tmpfs -o nosuid,mode=755 dev "$root/dev"
for device in null:3 zero:5 full:7 random:8 urandom:9; do
    mknod -m 666 "$root/dev/${device%:*}" c 1 "${device#*:}"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=666 pts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
mount -t tmpfs -o nosuid,nodev shm "$root/dev/shm"

cd "$root"
pivot_root . .
umount -l .
# systemd takes a variable of this name for "this is a container".
exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C \
    DEBIAN_FRONTEND=noninteractive "$@"
