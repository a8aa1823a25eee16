#!/bin/sh
# SPDX-License-Identifier: MIT OR GPL-2.0
#
# Tests of the command dmaheap on a real kernel, for a guest of tools/vm: needs
# root, vivid, vkms, bochs and vgem as modules, and /dmaheap, /choose. Prints KTAP.

links=/sys/module/dmabuf_coherency/parameters/links
heaps=/dev/dma_heap
tmp=/tmp/dmaheap
fails=0
number=0

# Runs one test, a function; it fails at the first command that fails.
run() {
	number=$((number + 1))
	(set -e; "$1") >"$tmp/log" 2>&1
	status=$?
	sed 's/^/# /' "$tmp/log"
	if [ "$status" = 0 ]; then
		echo "ok $number dmaheap.$1"
	else
		echo "not ok $number dmaheap.$1"
		fails=$((fails + 1))
	fi
}

# status N COMMAND...: it must exit with N. Leaves what it said in out and err.
status() {
	wanted=$1
	shift
	ended=0
	"$@" >"$tmp/out" 2>"$tmp/err" || ended=$?
	[ "$ended" = "$wanted" ] && return
	echo "expected exit status $wanted, got $ended: $*"
	cat "$tmp/out" "$tmp/err"
	return 1
}

# says FILE TEXT: the file must contain it.
says() {
	grep -qF -- "$2" "$tmp/$1" && return
	echo "expected in $1: $2"
	cat "$tmp/$1"
	return 1
}

# silent FILE: nothing may be in it.
silent() {
	[ ! -s "$tmp/$1" ] && return
	echo "expected nothing in $1, got:"
	cat "$tmp/$1"
	return 1
}

# is GOT WANTED
is() {
	[ "$1" = "$2" ] && return
	echo "expected $2, got $1"
	return 1
}

# Waits for a line that a program in the background writes.
await() {
	tries=0
	until grep -qsE "$2" "$tmp/$1"; do
		tries=$((tries + 1))
		if [ "$tries" -gt 600 ]; then
			echo "expected in $1, sooner or later: $2"
			cat "$tmp/$1"
			return 1
		fi
		usleep 100000
	done
}

# The first heap of one node's order that all others are linked to.
common() {
	first=$1
	shift
	for heap in $(cat "$first/device/dma_heaps/order"); do
		for node; do
			[ -e "$node/device/dma_heaps/$heap" ] || continue 2
		done
		echo "$heap"
		return
	done
}

video=/sys/class/video4linux/video0
pci=/sys/bus/pci/drivers/bochs-drm/0000:*
vkms=/sys/bus/faux/devices/vkms

# Runs a command as a user who is not root, in the group video or not.
as() {
	user=$1
	shift
	su -s /bin/sh "$user" -c "exec $*"
}

without_heaps() {
	mount -t tmpfs tmpfs /sys/class/dma_heap
	mount -t tmpfs tmpfs $heaps
	got=0
	status 3 /dmaheap list && says err 'this kernel has no DMA heaps: it needs CONFIG_DMABUF_HEAPS' &&
		status 3 /dmaheap pick /dev/video0 && says err 'this kernel has no DMA heaps' &&
		status 0 /dmaheap devices || got=1
	umount /sys/class/dma_heap $heaps
	return $got
}

# As in a container that was given sysfs and no nodes of heaps.
without_nodes() {
	mount -t tmpfs tmpfs $heaps
	got=0
	status 0 /dmaheap list && grep -qE '^system-noncoherent .* no node$' "$tmp/out" &&
		status 3 /dmaheap pick vivid && silent out &&
		says err "mount devtmpfs on /dev, or give the node to the container (--device $heaps/" &&
		status 3 /dmaheap alloc --heap system --size 1 && says err "(--device $heaps/system)" &&
		status 3 /dmaheap try vivid && says err '(--device ' || got=1
	umount $heaps
	[ $got = 0 ]
	status 0 /dmaheap pick vivid
}

without_module() {
	status 0 /dmaheap list
	grep -qE '^system +any +write-back +any +yes$' "$tmp/out"
	says err 'the module dmabuf_coherency is not loaded'
	status 0 /dmaheap devices
	says out vivid.0
	status 3 /dmaheap pick /dev/video0
	silent out
	says err 'nothing is known of vivid.0: the module dmabuf_coherency is not loaded'
	status 0 /dmaheap alloc --heap system --size 64K
	status 0 /dmaheap buffers
}

list() {
	status 0 /dmaheap list
	silent err
	for heap in $heaps/*; do
		says out "${heap##*/} "
	done
	grep -qE '^system-coherent +snooping +write-back +any +yes$' "$tmp/out"
	case $(uname -m) in
	x86_64) grep -qE '^system-uncached +any +write-combining +any ' "$tmp/out" ;;
	*) grep -qE '^system-uncached +non-snooping +write-combining +any ' "$tmp/out" ;;
	esac
	[ ! -e $heaps/default_cma_region ] ||
		grep -qE '^default_cma_region-noncoherent +any +write-back +one ' "$tmp/out"
	! grep -E '^.{81}' "$tmp/out"
}

# yes or no, for a file that has 1 or 0 in it.
word() {
	case $(cat "$1") in
	1) echo "$2" ;;
	0) echo "$3" ;;
	esac
}

# Of each device that has links: the directory of one of its nodes.
linked_nodes() {
	for node in /sys/class/drm/card? /sys/class/drm/renderD* /sys/class/video4linux/*; do
		[ ! -e "$node/device/dma_heaps" ] || echo "$node"
	done
}

devices() {
	status 0 /dmaheap devices
	silent err
	if grep -E '^.{81}' "$tmp/out"; then return 1; fi
	grep -qE '^    nodes: /dev/video0 .* and [0-9]+ more$' "$tmp/out"
	status 0 /dmaheap devices -v
	silent err
	# A line for each device, with all that stands below it.
	awk '/^[^ ]/ && NR > 1 { print "" } { printf "%s ", $0 } END { print "" }' "$tmp/out" |
		tr -s ' ' >"$tmp/devices"
	for node in $(linked_nodes); do
		device=$(basename "$(readlink -f "$node/device")")
		files=$node/device/dma_heaps
		line=$(grep "^$device " "$tmp/devices")
		order=$(cat "$files/order")
		echo "$line"
		echo "$line" | grep -qF " heaps: ${order:-none suits it} "
		echo "$line" | grep -qF " /dev/"
		echo "$line" | grep -qF " $(word "$files/snoops" yes no) "
		echo "$line" | grep -qF " $(cat "$files/pieces") nodes: "
	done
	# The CPU does its work, so it snoops everywhere.
	grep -qE '^vivid.0 platform vivid yes 64 bits any nodes: .* heaps: system-noncoherent ' "$tmp/devices"
}

constraints() {
	status 0 /dmaheap --json devices
	for node in $(linked_nodes); do
		device=$(basename "$(readlink -f "$node/device")")
		files=$node/device/dma_heaps
		needs="\"address_bits\":$(cat "$files/address_bits")"
		needs="$needs,\"iommu\":$(word "$files/iommu" true false)"
		needs="$needs,\"pieces\":\"$(cat "$files/pieces")\""
		needs="$needs,\"snoops\":$(word "$files/snoops" true false)"
		echo "$device: $needs"
		grep -qE "\"constraints\":\{$needs\},\"driver\":[^,]*,\"name\":\"$device\"" "$tmp/out"
	done
	says out 'the kernel says so: /sys/devices/platform/vivid.0/dma_heaps/snoops'
}

# linked NODE HEAP
linked() {
	[ -e "$1/device/dma_heaps/$2" ] && return
	echo "expected $1 to have a link to $2"
	return 1
}

# Every pair of nodes, in both orders.
pick() {
	nodes="$video /sys/class/drm/card0 /sys/class/drm/card1 /sys/class/drm/card2"
	for a in $nodes; do
		is "$(/dmaheap pick "$a")" "$heaps/$(common "$a")"
		for b in $nodes; do
			status 0 /dmaheap pick "$a" "$b"
			silent err
			heap=$(basename "$(cat "$tmp/out")")
			linked "$a" "$heap"
			linked "$b" "$heap"
			is "$(/dmaheap pick "$b" "$a")" "$heaps/$heap"
		done
	done
}

handles() {
	wanted=$(/dmaheap pick /dev/video0)
	exec 9</dev/video0
	for handle in vivid vivid.0 video0 $video /sys/devices/platform/vivid.0 /proc/self/fd/9; do
		is "$(/dmaheap pick "$handle")" "$wanted"
	done
	address=$(basename $pci)
	for handle in bochs bochs-drm "$address" "${address#0000:}"; do
		is "$(/dmaheap pick "$handle")" "$heaps/$(common /sys/bus/pci/drivers/bochs-drm/0000:*/drm/card?)"
	done
	status 3 /dmaheap pick faux_driver
	says err 'stands for several devices: name one of vgem and vkms'
}

explain() {
	status 0 /dmaheap pick --explain vkms bochs
	is "$(head -n 1 "$tmp/out")" "$(/dmaheap pick vkms bochs)"
	silent err
	says out ': the best that fits and may be opened'
	for heap in $heaps/*; do
		grep -q "^${heap##*/}: " "$tmp/out"
	done
	says out "vkms: $(word $vkms/dma_heaps/snoops snoops 'does not snoop') the CPU caches, "
	[ "$(cat $vkms/dma_heaps/snoops)" = 1 ] ||
		says out 'system-coherent: vkms does not snoop the CPU caches'
	[ "$(uname -m)" = x86_64 ] ||
		says out "system-uncached: $(basename $pci) snoops the CPU caches, which speculation may fill"
}

none_fits() {
	echo vivid=system-uncached,bochs-drm=system-noncoherent >$links
	got=0
	status 1 /dmaheap pick --explain vivid bochs &&
		says err 'no heap fits all of these devices, because the parameter links has rules for ' &&
		says err "Change the rules, or remove them as root: \`echo > $links\`" &&
		says out 'system-noncoherent: the parameter links has a rule for vivid.0' ||
		got=1
	echo >$links
	status 0 /dmaheap pick vivid bochs
	return $got
}

# A rule may say in how many pieces a driver takes a buffer, and name no heap.
pieces() {
	before=$(cat $video/device/dma_heaps/order)
	echo vivid=pieces/any >$links
	got=0
	is "$(cat $video/device/dma_heaps/order)" "$before" &&
		status 0 /dmaheap pick --explain vivid bochs &&
		! grep 'has a rule' "$tmp/out" ||
		got=1
	echo >$links
	return $got
}

size() {
	heap=$(basename "$(/dmaheap pick vivid)")
	limit=/sys/class/dma_heap/$heap/limit
	echo 4096 >"$limit"
	got=0
	is "$(/dmaheap pick --size 4K vivid)" "$heaps/$heap" &&
		status 0 /dmaheap pick --size 5K --explain vivid &&
		says out "$heap: a buffer of this size exceeds its limit. $heap has a limit of 4096 bytes" &&
		status 3 /dmaheap alloc --heap "$heap" --size 8K &&
		says err "has no memory for 8192 bytes: $heap has a limit of 4096 bytes, of which 0 are in use" &&
		! grep "/$heap\$" "$tmp/out" &&
		status 0 /dmaheap alloc --for vivid --size 5K -- sh -c 'echo "from $DMABUF_HEAP."' &&
		! grep "from $heap\.\$" "$tmp/out" ||
		got=1
	echo 0 >"$limit"
	[ $got = 0 ]
	is "$(/dmaheap pick --size 5K vivid)" "$heaps/$heap"
	status 3 /dmaheap pick --size 1T vivid
	says err 'no heap that fits all of these devices has memory for 1099511627776 bytes'
	[ -e $heaps/default_cma_region ] || return 0
	capacity=$(cat /sys/class/dma_heap/default_cma_region-noncoherent/capacity)
	status 0 /dmaheap pick --size $((capacity + 1)) --explain vivid
	says out 'default_cma_region-noncoherent: a buffer of this size exceeds its capacity'
	says out 'default_cma_region: a buffer of this size exceeds its capacity'
}

# Devices that snoop lose nothing.
without_brackets() {
	is "$(/dmaheap pick --without-brackets vivid bochs)" "$(/dmaheap pick vivid bochs)"
	if [ "$(cat $vkms/dma_heaps/snoops)" = 1 ]; then
		is "$(/dmaheap pick --without-brackets vkms bochs)" "$(/dmaheap pick vkms bochs)"
		return
	fi
	# Strict heaps refuse one of them, uncached ones the other.
	status 1 /dmaheap pick --without-brackets --explain vkms bochs
	says err 'because of those that are not known to snoop the CPU caches: vkms. Bracket each'
	says out 'system-noncoherent: vkms does not snoop the CPU caches, so that bytes are wrong'
	status 1 /dmaheap alloc --without-brackets --for vkms bochs --size 1
	says err 'by DMA_BUF_IOCTL_SYNC'
}

bad_input() {
	status 2 /dmaheap pick
	status 3 /dmaheap pick /dev/video77
	says err 'there is no device /dev/video77'
	status 3 /dmaheap pick /etc
	says err '/etc is a directory, and not that of a device'
	status 3 /dmaheap pick /dev/null
	says err '/dev/null is not a video, display or accelerator node'
	status 2 /dmaheap alloc --for vivid --size 0
	status 3 /dmaheap alloc --for vivid --size 1T
	says err 'memory for 1099511627776 bytes'
	status 3 /dmaheap alloc --for vivid --size 16777215T
	says err 'memory for'
	status 3 /dmaheap alloc --for vivid --size 18446744073709551615
	says err 'memory for'
	status 3 /dmaheap alloc --heap system --size 18446744073709551615
	says err 'the heap system has no memory for'
	status 2 /dmaheap alloc --heap system --size 1 --without-brackets
	status 2 /dmaheap pick --size 0 vivid
	status 3 /dmaheap alloc --heap nonesuch --size 1
	says err 'there is no heap nonesuch'
	status 2 /dmaheap alloc --for vivid --size 1 --name 01234567890123456789012345678901
}

gone() {
	exec 9</dev/video0
	echo vivid.0 >/sys/bus/platform/drivers/vivid/unbind
	got=0
	status 3 /dmaheap pick /proc/self/fd/9 && says err 'is gone: open its node anew' || got=1
	exec 9<&-
	echo vivid.0 >/sys/bus/platform/drivers/vivid/bind
	status 0 /dmaheap pick vivid.0
	return $got
}

alloc() {
	status 0 /dmaheap alloc --for vivid bochs --size 8M --name frame -- \
		sh -c 'cat /proc/self/fdinfo/$DMABUF_FD; echo "$DMABUF_SIZE of $DMABUF_HEAP"'
	heap=$(basename "$(/dmaheap pick --size 8M vivid bochs)")
	says out "size:	8388608"
	says out "exp_name:	$heap"
	says out "name:	frame"
	says out "8388608 of $heap"
	is "$(/dmaheap alloc --heap "$(/dmaheap pick vivid)" --size 1 -- sh -c 'echo $DMABUF_HEAP')" \
		"$(basename "$(/dmaheap pick vivid)")"
	status 7 /dmaheap alloc --for vivid --size 1 -- sh -c 'exit 7'
	status 127 /dmaheap alloc --for vivid --size 1 -- /nonesuch
	status 126 /dmaheap alloc --for vivid --size 1 -- /etc
	status 0 /dmaheap alloc --for vivid --size 1 --contiguous -- sh -c 'echo $DMABUF_HEAP'
	is "$(cat "/sys/class/dma_heap/$(cat "$tmp/out")/contiguous")" 1
}

# One descriptor opens the heap, and none is left for the buffer.
out_of_descriptors() {
	status 3 sh -c 'ulimit -n 4; exec /dmaheap alloc --heap system-coherent --size 1M'
	silent out
	says err 'allocating from the heap system-coherent: '
	says err 'close some, or raise the limit (ulimit -n)'
	is "$(cat /sys/class/dma_heap/system-coherent/buffers)" 0
	status 0 sh -c 'ulimit -n 5; exec /dmaheap alloc --heap system-coherent --size 1M'
}

# The kernel's own account of live buffers.
live() {
	head -n 1 "/sys/kernel/debug/dma_buf/bufinfo" >/dev/null
	grep -c "	$1	" /sys/kernel/debug/dma_buf/bufinfo || true
}

buffers() {
	is "$(live system-coherent)" 0
	/dmaheap alloc --heap system-coherent --size 1M --name held -- sleep 1000 &
	holder=$!
	until grep -q held /sys/kernel/debug/dma_buf/bufinfo; do usleep 10000; done
	got=0
	status 0 /dmaheap buffers && cp "$tmp/out" "$tmp/buffers" &&
		grep -qE " 1 MiB  system-coherent +held +yes +1 .*sleep\[$holder\] fd [0-9]+" "$tmp/buffers" &&
		status 0 /dmaheap buffers --pid $holder && says out held &&
		status 0 /dmaheap buffers --pid $$ && ! grep held "$tmp/out" &&
		status 0 /dmaheap --json buffers && says out '"name":"held"' && says out '"size":1048576' &&
		status 0 /dmaheap buffers --totals && grep -qE '^exporter +system-coherent +1 +1 MiB +1 MiB$' "$tmp/out" &&
		grep -qE "^process +sleep\[$holder\] +1 +1 MiB +1 MiB\$" "$tmp/out" &&
		status 0 /dmaheap list -n -o HEAP,BUFFERS,BYTES &&
		grep -qE '^system-coherent +1 +1 MiB$' "$tmp/out" || got=1
	as outsider /dmaheap buffers >"$tmp/out" 2>"$tmp/err" || got=1
	says err 'only root may read debugfs' || got=1
	says err 'processes are not yours' || got=1
	as outsider /dmaheap buffers --pid $holder >"$tmp/out" 2>"$tmp/err" && got=1
	says err 'which is not yours: try as root' || got=1
	umount /sys/kernel/debug
	status 0 /dmaheap buffers && says out held || got=1
	says err 'debugfs is not mounted' || got=1
	mount -t debugfs debugfs /sys/kernel/debug
	kill $holder
	wait $holder || true
	[ $got = 0 ] || cat "$tmp/buffers"
	status 3 /dmaheap buffers --pid $holder
	says err 'there is no process'
	return $got
}

# A name has anything in it: here an escape sequence, a tab, what is no UTF-8, and all that
# tells another buffer's line in debugfs.
names() {
	name=$(printf '\033[31m\tx\377\n1\t2\t3\t4\tforged\t5\t')
	/dmaheap alloc --heap system-coherent --size 1M --name "$name" -- sleep 1000 &
	holder=$!
	until grep -q forged /sys/kernel/debug/dma_buf/bufinfo; do usleep 10000; done
	got=0
	for debugfs in there gone; do
		status 0 /dmaheap buffers --pid $holder && is "$(wc -l <"$tmp/out")" 2 &&
			says out ' 1 MiB  system-coherent  \u{1b}[31m\tx' &&
			! grep "$(printf '[\033\t]')" "$tmp/out" || got=1
		status 0 /dmaheap buffers && ! grep -E '^ *5 ' "$tmp/out" || got=1
		[ $debugfs = gone ] || umount /sys/kernel/debug
	done
	mount -t debugfs debugfs /sys/kernel/debug
	kill $holder
	wait $holder || true
	return $got
}

# As a person without a shell on the machine's administration sees it.
permission() {
	for user in member outsider; do
		as $user /dmaheap devices >"$tmp/out"
		says out vivid.0
		as $user /dmaheap list >"$tmp/out"
		grep -qE '^system-noncoherent .* root$' "$tmp/out"
		got=0
		as $user /dmaheap pick vivid.0 >"$tmp/out" 2>"$tmp/err" || got=$?
		is $got 3
		silent out
		says err 'fits, but only root may open /dev/dma_heap/system-'
	done
	# What the udev rule does.
	chgrp video $heaps/*-coherent $heaps/*-noncoherent $heaps/*-uncached
	chmod 660 $heaps/*-coherent $heaps/*-noncoherent $heaps/*-uncached
	as outsider /dmaheap list >"$tmp/out"
	grep -qE '^system-noncoherent .* video$' "$tmp/out"
	grep -qE '^system .* root$' "$tmp/out"
	got=0
	as outsider /dmaheap alloc --for vivid.0 --size 1M 2>"$tmp/err" || got=$?
	is $got 3
	says err 'join the group video'
	is "$(as member /dmaheap pick vivid.0)" "$(/dmaheap pick vivid.0)"
	as member "/dmaheap alloc --for vivid.0 --size 1M -- sh -c 'cat /proc/self/fdinfo/\$DMABUF_FD'" >"$tmp/out"
	says out "size:	1048576"
}

watch() {
	as outsider /dmaheap watch >"$tmp/watched" 2>&1 &
	watcher=$!
	/dmaheap --json watch >"$tmp/watched.json" &
	second=$!
	got=0
	seen present ': system' &&
		echo vivid.0 >/sys/bus/platform/drivers/vivid/unbind && seen removed ': system' &&
		echo vivid.0 >/sys/bus/platform/drivers/vivid/bind && seen added ': system' &&
		echo vivid=system-uncached >$links && seen changed ': system-uncached$' || got=1
	[ -e /sys/bus/platform/drivers/vivid/vivid.0 ] || echo vivid.0 >/sys/bus/platform/drivers/vivid/bind
	echo >$links
	kill $watcher $second
	wait $watcher $second || true
	return $got
}

# seen WORD REST: both watchers must tell that of vivid.
seen() {
	# As links go, the driver may be gone already.
	await watched "^$1 +vivid.0 \([a-z ]*\)$2" && await watched.json "\"name\":\"vivid.0\".*\"links\":\"$1\""
}

# Ends when it is interrupted, and until then tells what changes.
follow() {
	/dmaheap alloc --heap system-coherent --size 1M --name seen -- sleep 1000 &
	holder=$!
	until grep -q seen /sys/kernel/debug/dma_buf/bufinfo; do usleep 10000; done
	/dmaheap buffers --follow=0.1 >"$tmp/followed" 2>&1 &
	follower=$!
	got=0
	await followed '^present +[0-9]+ 1 MiB system-coherent seen ' || got=1
	/dmaheap try --heap system-coherent --frames 1000000 --size 2M /dev/video0 &
	tried=$!
	await followed '^new +[0-9]+ 2 MiB system-coherent ' || got=1
	kill $holder $tried
	wait $holder $tried || true
	await followed '^gone +[0-9]+ 1 MiB system-coherent seen$' &&
		await followed '^gone +[0-9]+ 2 MiB system-coherent dmaheap try$' || got=1
	kill $follower
	wait $follower || true
	[ $got = 0 ]
	status 130 timeout -s INT 2 /dmaheap buffers --follow
}

graph() {
	status 0 /dmaheap graph
	says out '<svg xmlns="http://www.w3.org/2000/svg"'
	says out 'vivid (platform)'
	says out '</svg>'
	status 0 /dmaheap graph --format dot
	says out 'digraph dmaheap {'
	says out '[taillabel="1", penwidth=3]'
}

json() {
	for command in list devices buffers graph 'pick vivid.0' 'alloc --heap system --size 1' 'pick nonesuch'; do
		# shellcheck disable=SC2086
		/dmaheap --json $command >"$tmp/out" || true
		says out '"version":3}'
		is "$(wc -l <"$tmp/out")" 1
	done
	is "$(/dmaheap --json alloc --heap system --size 64000)" \
		'{"buffer":{"heap":"system","name":null,"read_only":false,"size":65536},"version":3}'
}

# What stands in a column of a table, for each node and heap.
column() {
	awk -v wanted="$1" 'NR == 1 { for (i = 1; i <= NF; i++) if ($i == wanted) n = i; next }
		/^[^ ]/ { gsub("takes it", "takes"); print $n }' "$tmp/out"
}

# What is said of heaps, but for another name of one, which the module does not link to.
agreement() {
	sed -i '/ reserved /d' "$tmp/out"
	column AGREES | sort -u
}

# Nothing differs of devices that attach and never map, and of those whose work the CPU does.
try() {
	status 0 /dmaheap try --size 1M vkms bochs vgem vivid.0
	rows=$(ls $heaps | wc -l)
	for node in /dev/video0 /dev/video1; do
		is "$(grep -c "^$node " "$tmp/out")" "$rows"
	done
	is "$(grep -c '^/dev/dri/card' "$tmp/out")" $((3 * rows))
	is "$(column PIECES | sort -u)" any
	is "$(agreement)" yes
	says err ' cannot be tried: it has no frames of video'
	status 0 /dmaheap try --frames 3 --heap system-noncoherent video0
	is "$(column KERNEL)" takes
	is "$(column NODE)" /dev/video0
	/dmaheap --json try --heap system-noncoherent --frames 3 /dev/video0 bochs >"$tmp/out"
	says out '"frames":3'
	says out '"framebuffer":true'
	says out '"agrees":true,"call":null,"device":"vivid.0","driver":"vivid","errno":null'
	says out '"rules":null'
	status 3 /dmaheap try /dev/radio0
	says err 'dmaheap: /dev/radio0 cannot be tried: it does not stream'
	silent out
}

# A converter has two queues, and is not started.
try_converter() {
	modprobe vim2m
	got=0
	status 0 /dmaheap try --size 1M vim2m && is "$(agreement)" yes || got=1
	rmmod vim2m
	return $got
}

# Its node is in a directory of its own, and its import maps. Of a heap that refuses it, kernel and links
# say the same.
try_accelerator() {
	modprobe dmabuf_accel
	got=0
	status 0 /dmaheap try --size 1M /dev/accel/accel0 &&
		is "$(agreement)" yes &&
		is "$(column NODE | sort -u)" /dev/accel/accel0 &&
		is "$(column PIECES | sort -u)" any &&
		grep -qE '^/dev/accel/accel0 +system-noncoherent +yes +any +takes it +yes$' "$tmp/out" &&
		status 0 /dmaheap pick accel0 dmabuf_accel &&
		says out $heaps/system- || got=1
	rmmod dmabuf_accel
	return $got
}

bench() {
	status 0 /dmaheap bench --heap system-noncoherent --size 64K,1M --samples 3 bochs /dev/video0
	silent err
	for operation in alloc-cold alloc-warm map bracket import; do
		for heap in system system-noncoherent; do
			grep -qE "^$operation +64 KiB  $heap +[0-9.]+ [num]?s +[0-9.]+ [num]?s +[0-9.]+ [num]?s +[0-9.]+\$" \
				"$tmp/out"
		done
	done
	# A warm buffer is to be had without zeroing.
	grep -A 1 -E '^alloc-warm +1 MiB  system-noncoherent' "$tmp/out" |
		grep -qE '^    threads: ([0-9.]+ .?s of CPU time|zeroed it) beforehand'
	! grep -A 1 -E '^alloc-warm +1 MiB  system ' "$tmp/out" | grep threads
	says out 'why: /dev/video0 cannot be tried: a frame does not fit into the buffer'
	as outsider /dmaheap bench --heap system --samples 1 >"$tmp/out" 2>"$tmp/err" && return 1
	says err 'only root may open'
	/dmaheap --json bench --size 4K --samples 1 --heap system >"$tmp/out"
	is "$(grep -o '"heap":"system"' "$tmp/out" | wc -l)" 4
	# Not every kernel counts the work of threads; none works for this heap.
	grep -qE '"operation":"alloc-warm","problem":null,"ratio":1.0,"size":4096,"threads":(null|0),"upper_quartile":' \
		"$tmp/out"
}

# In use by another, which is killed then: nothing stays behind.
try_busy() {
	/dmaheap try --heap system-noncoherent --frames 1000000 /dev/video0 &
	busy=$!
	until grep -q 'dmaheap try' /sys/kernel/debug/dma_buf/bufinfo; do usleep 10000; done
	got=0
	status 3 /dmaheap try /dev/video0 &&
		says err '/dev/video0: VIDIOC_REQBUFS: Device or resource busy' || got=1
	kill $busy
	wait $busy || true
	tries=0
	until is "$(live system-noncoherent)" 0 >"$tmp/live" || [ "$tries" = 100 ]; do
		tries=$((tries + 1))
		usleep 100000
	done
	cat "$tmp/live"
	return $got
}

# Takes buffers for the CPU no longer, but for DMA in one piece.
vivid_maps() {
	rmmod vivid
	modprobe vivid allocators=1 "$@"
}

# A device that needs one piece, and the rule that says so. What it takes of other heaps has one
# by chance.
try_one_piece() {
	vivid_maps
	status 0 /dmaheap try /dev/video0
	is "$(column PIECES | sort -u)" one
	is "$(agreement)" yes
	if grep -q EOPNOTSUPP "$tmp/out"; then
		says err 'the kernel has lost buffers of '
	fi
	grep -qE 'EFAULT, the driver wants one physical piece|in one physical piece by chance' "$tmp/out"
	[ -e $heaps/default_cma_region ] || return 0
	echo vivid=pieces/any >$links
	got=0
	status 1 /dmaheap try /dev/video0 &&
		grep -E '^/dev/video0 +system +yes +one .* NO$' "$tmp/out" &&
		grep -E '^/dev/video0 +default_cma_region +yes +one +takes it +yes$' "$tmp/out" &&
		status 1 /dmaheap try --rules /dev/video0 &&
		is "$(cat "$tmp/out")" 'options dmabuf_coherency links=vivid=pieces/one' &&
		says err 'this takes effect at once' &&
		cut -d = -f 2- "$tmp/out" >$links && status 0 /dmaheap try /dev/video0 || got=1
	echo >$links
	return $got
}

# Several planes, of which each has a buffer.
try_planes() {
	vivid_maps multiplanar=2
	status 0 /dmaheap try --size 4K --frames 2 /dev/video0 /dev/video1
	is "$(agreement)" yes
	for node in /dev/video0 /dev/video1; do
		grep -qE "^$node .* yes +one +takes it +yes\$" "$tmp/out"
	done
	rmmod vivid
	modprobe vivid
}

# virtio_gpu without blob resources has an import function that always fails.
try_differs() {
	modprobe virtio-gpu
	for card in /sys/class/drm/card?; do
		[ "$(basename "$(readlink "$card/device/driver")")" != virtio-pci ] || gpu=${card##*/}
	done
	status 1 /dmaheap try --size 64K "/dev/dri/$gpu"
	! column KERNEL | grep takes
	grep -qE ' system +yes +[?] +ENODEV +NO$' "$tmp/out"
	says out 'kernel: PRIME import: ENODEV, the driver takes no buffers of others'
	says out 'links: system works each time'
	status 1 /dmaheap try --rules --size 64K "$gpu"
	silent out
	says err 'no rule can say what the kernel says of virtio-pci'
	rmmod virtio_gpu
}

example_in_c() {
	status 0 /choose /dev/video0 /dev/dri/card0
	says out "8388608 bytes of $heaps/$(common $video /sys/class/drm/card0)"
	status 1 /choose /dev/null
}

mkdir -p $tmp /etc
chmod 755 $tmp
echo 'root:x:0:
video:x:44:member
users:x:100:' >/etc/group
echo 'root:x:0:0::/:/bin/sh
member:x:1000:100::/:/bin/sh
outsider:x:1001:100::/:/bin/sh' >/etc/passwd
echo 'KTAP version 1'

modprobe vivid && modprobe vkms && modprobe bochs && modprobe vgem
run without_module
run without_heaps
insmod "$DMABUF_COHERENCY_KO"
for test in list devices without_nodes constraints pick handles explain none_fits pieces size without_brackets \
	bad_input gone alloc out_of_descriptors buffers names permission watch follow graph json example_in_c \
	bench try try_converter try_busy try_one_piece try_planes try_differs; do
	run $test
done
if grep -qs "dmabuf_accel[.]ko" "/lib/modules/$(uname -r)/modules.dep"; then
	run try_accelerator
else
	number=$((number + 1))
	echo "ok $number dmaheap.try_accelerator # SKIP the kernel has no class accel"
fi
echo "1..$number"
exit $((fails > 0))
