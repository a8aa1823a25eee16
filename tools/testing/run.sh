#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Loads the modules that lie beside this script, where they are not loaded yet,
# and runs the tests on each heap of ours, or on those that HEAPS names. Takes
# filters and options of the test program: see dmabuf_coherency_selftest --help.
#
# Prints KTAP, the tests of each heap one level down. Exits as kselftests do: 0
# if all is well, 1 if something failed, 4 if nothing could be run.

here=$(cd "$(dirname "$0")" && pwd -P)
export DMABUF_COHERENCY_KO="$here/dmabuf_coherency.ko"

skip() {
	echo "1..0 # SKIP $*"
	exit 4
}

# Loads a module, and remembers those that can go again.
load() {
	[ -d "/sys/module/$1" ] && return
	insmod "$here/$1.ko" || return
	[ "$1" = dmabuf_coherency ] || loaded="$1 $loaded"
}

[ "$(id -u)" = 0 ] || { echo "KTAP version 1"; skip "only root can load modules"; }
[ -d /sys/kernel/debug/dma_buf ] || mount -t debugfs debugfs /sys/kernel/debug

echo "KTAP version 1"
loaded=
load dmabuf_coherency ||
	skip "dmabuf_coherency.ko cannot be loaded: was it built for Linux $(uname -r)?"
for module in dmabuf_importer dmabuf_memtype dmabuf_references; do
	load $module || echo "# without $module.ko the tests that need it are skipped"
done

: "${HEAPS:=$(cd /dev/dma_heap && ls -d -- *-coherent *-noncoherent *-uncached 2>/dev/null)}"
[ "$HEAPS" ] || skip "there is no heap of dmabuf_coherency in /dev/dma_heap"
# Each heap is a word: their names have no blanks.
set -f
echo "1..$(echo $HEAPS | wc -w)"

number=0
passed=0
failed=0
exec 4>&1
for heap in $HEAPS; do
	number=$((number + 1))
	status=$({
		{
			"$here/dmabuf_coherency_selftest" --heap "$heap" "$@" 2>&1
			echo $? >&3
		} | sed 's/^/    /' >&4
	} 3>&1)
	case $status in
	0)
		passed=$((passed + 1))
		echo "ok $number $heap"
		;;
	4) echo "ok $number $heap # SKIP all of its tests" ;;
	*)
		failed=$((failed + 1))
		echo "not ok $number $heap"
		;;
	esac
done

for module in $loaded; do
	rmmod "$module"
done
echo "# Totals: pass:$passed fail:$failed xfail:0 xpass:0 skip:$((number - passed - failed)) error:0"
[ $failed = 0 ] || exit 1
[ $passed != 0 ] || exit 4
