#!/usr/bin/env bash
# Runs Warpline in a virtual machine, for what a kernel or a machine without hardware lacks: AF_XDP in zero-copy mode on a
# virtio-net device, and VLAN interfaces. Software emulation is enough. Needs root, qemu-system-x86_64, a static busybox,
# and a Debian "cloud" kernel of 6.13 or later, unpacked:
#
#   apt-get download linux-binary-VERSION-cloud-amd64 linux-modules-VERSION-cloud-amd64
#   dpkg-deb -x each.deb KERNEL
#   crates/pktio/tests/vm.sh KERNEL BUSYBOX target/debug/warpline [a test binary of pktio ...]
#
# Prints what the machine prints: the tests' results, then the JSON of a client inside, in zero-copy mode, to a server outside.
set -euo pipefail
[ $# -ge 3 ] || { sed -n '2,11s/^# \{0,1\}//p' "$0"; exit 2; }
kernel=$1 busybox=$2 warpline=$3
shift 3
work=$(mktemp -d) net=wlvm-$$
trap 'kill $(jobs -p) 2>/dev/null || true; ip netns del $net 2>/dev/null || true; rm -rf "$work"' EXIT

root=$work/root
mkdir -p "$root"/{bin,sbin,lib64,lib/x86_64-linux-gnu,proc,sys,dev,run,tmp,modules,tests}
cp "$busybox" "$root/bin/busybox"
cp -L /usr/sbin/ip "$root/sbin/ip"
strip -o "$root/bin/warpline" "$warpline"
for test in "$@"; do strip -o "$root/tests/$(basename "$test")" "$test"; done
for library in $(ldd /usr/sbin/ip "$warpline" | awk '/=> \//{print $3}' | sort -u); do
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
uname -r
/sbin/ip link set lo up; /sbin/ip addr add 10.88.0.2/24 dev eth0; /sbin/ip link set eth0 up
for test in /tests/*; do [ -x \$test ] && timeout 600 \$test --test-threads 1 --nocapture; done
for scenario in download upload reqresp; do
    timeout 60 warpline perf client 10.88.0.1:4434 --insecure --scenario \$scenario --duration 5 --bytes 1000000 \\
        --in-flight 8 --io xdp --interface eth0 --xdp-mode zero-copy
done
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
    < /dev/null
