#!/usr/bin/env bash
# Runs Warpline in a virtual machine, for what a kernel or a machine without hardware lacks: AF_XDP in zero-copy mode on a
# virtio-net device, and VLAN interfaces. Software emulation is enough. Needs root, qemu-system-x86_64, ethtool, a static
# busybox, and a Debian "cloud" kernel of 6.13 or later, unpacked:
#
#   apt-get download linux-binary-VERSION-cloud-amd64 linux-modules-VERSION-cloud-amd64
#   dpkg-deb -x each.deb KERNEL
#   crates/pktio/tests/vm.sh KERNEL BUSYBOX target/debug/warpline [a test binary ...] > bench/results/DATE-xdp-vm.txt
#
# A test binary may be followed by words for it, as in 'target/debug/deps/xdp-… vlan'. Prints what the machine prints: the
# tests' results, then the JSON of a client inside, in zero-copy mode, to a server outside. Fails if a test fails or skips a
# VLAN, if a client fails or moves a packet in another way, if busy polling is not live where it was asked for, or after
# half an hour. Debug builds count the frames in every turn.
set -euo pipefail
[ $# -ge 3 ] || { sed -n '2,14s/^# \{0,1\}//p' "$0"; exit 2; }
kernel=$1 busybox=$2 warpline=$3
shift 3
work=$(mktemp -d) net=wlvm-$$
trap 'kill $(jobs -p) 2>/dev/null || true; ip netns del $net 2>/dev/null || true; rm -rf "$work"' EXIT

root=$work/root
mkdir -p "$root"/{bin,sbin,lib64,lib/x86_64-linux-gnu,proc,sys,dev,run,tmp,modules,tests}
warpline=$(realpath "$warpline")
cp "$busybox" "$root/bin/busybox"
cp -L "$(command -v ip)" "$(command -v ethtool)" "$root/sbin/"
strip -o "$root/bin/warpline" "$warpline"
# Tests of the command start it by the path that it was built at.
mkdir -p "$root$(dirname "$warpline")"
ln -s /bin/warpline "$root$warpline"
number=0
for test in "$@"; do
    # What is to be run: the binary, then words for it.
    read -r binary words <<< "$test"
    number=$((number + 1))
    strip -o "$root/tests/$number" "$binary"
    echo "$number $(basename "$binary" | sed 's/-[0-9a-f]*$//') $words" >> "$root/tests/list"
done
touch "$root/tests/list"
programs=$(for test in "$@"; do echo "${test%% *}"; done)
for library in $(ldd "$(command -v ip)" "$(command -v ethtool)" "$warpline" $programs | awk '/=> \//{print $3}' | sort -u); do
    cp -L "$library" "$root/lib/x86_64-linux-gnu/"
done
cp -L /lib64/ld-linux-x86-64.so.2 "$root/lib64/"
modules="failover net_failover virtio_net veth llc stp mrp garp 8021q" # each before those that need it
for module in $modules; do
    file=$(find "$kernel" -name "$module.ko*" | head -1)
    case $file in *.xz) xz -dc "$file" ;; *) cat "$file" ;; esac > "$root/modules/$module.ko"
done

cat > "$root/init" <<INIT
#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/sbin:/bin HOME=/tmp
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp; mount -t tmpfs run /run
for module in $modules; do insmod /modules/\$module.ko; done
# Packets that the kernel has received since a socket had it poll.
polled() { awk '/^TcpExt:/ { if (!at) { for (i = 1; i <= NF; i++) if (\$i == "BusyPollRxPackets") at = i } else print \$at }' /proc/net/netstat; }
echo; echo "== begin"
uname -r
/sbin/ip link set lo up; /sbin/ip addr add 10.88.0.2/24 dev eth0; /sbin/ip link set eth0 up
while read -r number name words; do
    echo "== test \$name \$words"
    timeout 600 /tests/\$number \$words --test-threads 1 --nocapture < /dev/null || echo "== failed: \$name \$words"
done < /tests/list
echo 2 > /sys/class/net/eth0/napi_defer_hard_irqs
echo 200000 > /sys/class/net/eth0/gro_flush_timeout
for budget in 0 64; do
    for scenario in download upload reqresp; do
        echo "== client \$scenario, busy polling \$budget"
        before=\$(polled)
        timeout 60 warpline perf client 10.88.0.1:4434 --insecure --scenario \$scenario --duration 5 --bytes 1000000 --json \\
            --in-flight 8 --io xdp --interface eth0 --xdp-mode zero-copy --xdp-busy-poll \$budget ||
            echo "== failed: \$scenario, busy polling \$budget"
        echo "== polled \$((\$(polled) - before)) with budget \$budget"
    done
done
echo "== end"
poweroff -f
INIT
chmod +x "$root/init"
(cd "$root" && find . | "$busybox" cpio -o -H newc 2>/dev/null | gzip -1) > "$work/initrd"

ip netns add "$net"
ip -n "$net" link set lo up
ip netns exec "$net" ip tuntap add tap0 mode tap
ip -n "$net" addr add 10.88.0.1/24 dev tap0
ip -n "$net" link set tap0 up
sleep infinity | ip netns exec "$net" "$warpline" perf server --bind 10.88.0.1:4434 --io udp > /dev/null &
# Zero-copy wants a device that uses the DMA interface (iommu_platform) and guest offloads off, as XDP does in general.
ip netns exec "$net" timeout 1800 qemu-system-x86_64 -accel tcg,thread=multi -cpu max -smp 2 -m 2048 -nographic -no-reboot \
    -kernel "$(find "$kernel" -name 'vmlinuz*' | head -1)" -initrd "$work/initrd" \
    -append "console=ttyS0 quiet panic=-1 no_timer_check" -netdev tap,id=net,ifname=tap0,script=no,downscript=no \
    -device virtio-net-pci,netdev=net,disable-legacy=on,iommu_platform=on,guest_tso4=off,guest_tso6=off,guest_ufo=off,guest_ecn=off \
    < /dev/null | sed -un 's/\r//g; /^== begin/,/^== end/p' | tee "$work/log"

# What the kernel says may end up in the middle of a line, so nothing is asked of beginnings.
fail() { echo "vm.sh: $*" >&2; exit 1; }
grep -q '== end' "$work/log" || fail "the machine did not come to its end"
! grep -q '== failed' "$work/log" || fail "$(grep -o '== failed.*' "$work/log")"
! grep -Eq 'skipped: .*VLAN|VLAN.* skipped: ' "$work/log" || fail "there are no VLANs in this kernel"
[ "$(grep -c 'test result: ok' "$work/log")" = $# ] || fail "not every test binary has passed"
sed -n '/== client/,$p' "$work/log" > "$work/clients"
[ "$(grep -c '"mode":"zero-copy"' "$work/clients")" = 6 ] || fail "zero-copy mode is not live in every scenario"
[ "$(grep -c '"by_kernel":{"received":0,"sent":0}' "$work/clients")" = 6 ] || fail "packets went by the kernel's socket"
[ "$(grep -c '== polled 0 with budget 0' "$work/clients")" = 3 ] || fail "packets were polled without a word"
grep -q '== polled [1-9][0-9]* with budget 64' "$work/clients" || fail "busy polling is not live"
