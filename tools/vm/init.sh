#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# The first process of a guest: mounts what tests expect, runs /vm/command, and
# tells the host how it ended. /vm/guest is written for each run; it sets
#   end   what closes standard output and standard error
#   tty   the terminal of an interactive guest, else empty
#   size  its rows and columns, as arguments of stty

export PATH=/bin HOME=/root USER=root
/bin/busybox mkdir -p /proc /sys /dev /root /run /tmp
/bin/busybox mount -t proc proc /proc
/bin/busybox --install -s /bin
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/shm
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
mount -t debugfs debugfs /sys/kernel/debug
mount -t tracefs tracefs /sys/kernel/tracing
# Distributions have them as modules.
modprobe -qa configfs system_heap
mount -t configfs configfs /sys/kernel/config
mount -t cgroup2 cgroup2 /sys/fs/cgroup
ln -s /proc/self/fd /dev/fd
ln -s fd/0 /dev/stdin
ln -s fd/1 /dev/stdout
ln -s fd/2 /dev/stderr
ip link set lo up

. /vm/guest
DMABUF_COHERENCY_KO=/lib/modules/$(uname -r)/updates/dmabuf_coherency.ko
export DMABUF_COHERENCY_KO TERM

# Prints the device file of a port of run.rs, once it is there.
port() {
	until [ -c /dev/vport*p"$1" ]; do usleep 10000; done
	echo /dev/vport*p"$1"
}

# A port can be open only once, so that the command gets pipes instead, which
# it may open again as /dev/stdout.
exec 5<>"$(port 3)"
if [ "$tty" ]; then
	until [ -c "$tty" ]; do usleep 10000; done
	# A terminal forgets its size when it is opened for the first time.
	exec 6<>"$tty"
	setsid -c sh -c "stty $size; exec sh /vm/command" <&6 >&6 2>&6 5>&- 6>&-
	status=$?
else
	mkfifo /run/stdout /run/stderr
	cat /run/stdout >"$(port 1)" 5>&- &
	cat /run/stderr >"$(port 2)" 5>&- &
	exec 3>/run/stdout 4>/run/stderr
	(cd / && exec sh /vm/command) </dev/null >&3 2>&4 3>&- 4>&- 5>&-
	status=$?
fi

# Leaks are reported once they are five seconds old and seen by two scans.
if [ -w /sys/kernel/debug/kmemleak ]; then
	sleep 5
	echo scan >/sys/kernel/debug/kmemleak
	echo scan >/sys/kernel/debug/kmemleak
fi

if [ ! "$tty" ]; then
	printf %s "$end" >&3
	printf %s "$end" >&4
fi
echo "$status" >&5
# The host answers when it has everything.
read -r _ <&5
poweroff -f
