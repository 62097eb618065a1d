#!/bin/sh
# The demo: installs what is missing, builds, runs. Arguments go to pf-demo; see --help.
set -eu
cd "$(dirname "$0")/../.."

if [ "$(id -u)" -ne 0 ]; then
    echo "demo: needs root for network namespaces and TUN devices; try: sudo make demo" >&2
    exit 2
fi
tests/setup.sh demo
echo "demo: building, which takes a minute or two the first time"
cargo build --release --quiet -p pfd -p pfctl -p pf-load --bins
exec "${CARGO_TARGET_DIR:-target}/release/pf-demo" "$@"
