#!/usr/bin/env bash
# Every check of the project, in the order in which a mistake is cheapest to find. Run as root it also makes network
# namespaces and small file systems of its own; without root those tests say in one line that they skip.
set -euo pipefail
cd "$(dirname "$0")"

step() { printf '\n== %s\n' "$*"; }

need() { # command, Debian package
    command -v "$1" >/dev/null 2>&1 && return
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        # Some packages ask questions otherwise.
        export DEBIAN_FRONTEND=noninteractive
        apt-get install -y -q "$2" >/dev/null || { apt-get update -q >/dev/null && apt-get install -y -q "$2" >/dev/null; }
    else
        echo "$1 is missing: the tests that need it skip without root, and fail with it (Debian package $2)"
    fi
}

# A test that hangs fails, and the others run. Cargo starts whatever it builds and runs through this.
export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="timeout --foreground --kill-after=10 1200"

step "tools"
need cmake cmake          # aws-lc-rs builds with it where no pregenerated bindings fit
need ip iproute2          # network namespaces
need iptables iptables    # loss on real links
need iperf3 iperf3        # TCP and
need ping iputils-ping    # ping beside AF_XDP
need ethtool ethtool      # what interfaces offer to AF_XDP
need python3 python3-venv # aioquic, the Python peer
need strace strace        # system calls of workers, counted

step "formatting"
cargo fmt --all -- --check

step "clippy"
cargo clippy --all-targets -- -D warnings

step "documentation"
RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --quiet

step "tests"
cargo test --quiet --no-fail-fast

step "lock-free structures, model-checked"
export LOOM_TARGET="${CARGO_TARGET_DIR:-target}/loom"
RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR="$LOOM_TARGET" cargo test --quiet --release -p warpline-ring --test loom
RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR="$LOOM_TARGET" cargo test --quiet --release -p warpline-frame --lib

step "simulation, quick form"
cargo run --quiet --release -p warpline-sim -- --seeds 1000

step "interoperation with quinn and aioquic"
./interop/setup-aioquic.sh
cargo test --quiet -p warpline-interop
cargo run --quiet -p warpline-interop -- matrix --quick --peers quinn,aioquic --jobs 8

step "workers that come and go under load, short form"
cargo run --quiet --release -p warpline-bench -- chaos --seconds 10 --connections 400 --every 500 --pause 20

step "the demo"
cargo run --quiet --release -p warpline-cli -- demo --size 128 --files 2000 --json

echo
echo "all checks passed"
