#!/bin/sh
# The demo: installs what is missing, builds, runs. Arguments go to pf-demo; see --help.
set -eu
cd "$(dirname "$0")/../.."

as=''
if [ "$(id -u)" -ne 0 ]; then
    # Network namespaces and TUN devices need root; building does not.
    if ! command -v sudo >/dev/null 2>&1; then
        echo "demo: needs root for network namespaces and TUN devices" >&2
        exit 2
    fi
    as=sudo
fi
PF_SUDO="$as" tests/setup.sh demo
echo "demo: building, which takes a minute or two the first time"
cargo build --release --quiet -p pfd -p pfctl -p pf-load --bins
# shellcheck disable=SC2086 # empty for root
exec $as "${CARGO_TARGET_DIR:-target}/release/pf-demo" "$@"
