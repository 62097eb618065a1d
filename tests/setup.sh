#!/bin/sh
# Installs what the demo, the tests or the benches need, and says so.
#
# usage: tests/setup.sh demo|test|bench|peers
#
# Only what is missing is installed, only from the distribution, only as root (or with the program
# named in PF_SUDO). What cannot be installed is named; the tests that need it are then skipped,
# each with a line.
set -eu

# program or file:package
base='cc:gcc /usr/include/stdio.h:libc6-dev ip:iproute2 unshare:util-linux nsenter:util-linux mount:mount'
case "${1:-}" in
demo) wanted="$base" ;;
bench) wanted="$base nft:nftables iperf3:iperf3 taskset:util-linux" ;;
peers) wanted="$base nft:nftables nmap:nmap" ;;
test)
    wanted="$base bash:bash curl:curl nginx:nginx-light iperf3:iperf3 ping:iputils-ping
        traceroute:traceroute tcpdump:tcpdump nft:nftables nmap:nmap setpriv:util-linux
        mandoc:mandoc shellcheck:shellcheck"
    ;;
*)
    echo "usage: tests/setup.sh demo|test|bench|peers" >&2
    exit 2
    ;;
esac

if ! command -v cargo >/dev/null 2>&1; then
    echo "setup: cargo is missing; install Rust 1.91 or later (https://rustup.rs)" >&2
    exit 1
fi

PATH="$PATH:/usr/sbin:/sbin"
packages=''
for pair in $wanted; do
    # `command -v` takes a path only when it can be executed.
    if ! command -v "${pair%%:*}" >/dev/null 2>&1 && ! [ -e "${pair%%:*}" ]; then
        case " $packages " in
        *" ${pair#*:} "*) ;;
        *) packages="$packages ${pair#*:}" ;;
        esac
    fi
done
[ -n "$packages" ] || exit 0

as="${PF_SUDO:-}"
if [ "$(id -u)" -ne 0 ] && [ -z "$as" ]; then
    echo "setup: not root, so these packages stay missing:$packages" >&2
    exit 0
fi
if ! command -v apt-get >/dev/null 2>&1; then
    echo "setup: no apt-get here, please install:$packages" >&2
    exit 0
fi

echo "setup: installing$packages"
# Packages such as nginx would start a service, which nobody has asked for.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap '$as rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' | $as tee "$policy" >/dev/null
    $as chmod 755 "$policy"
fi
apt="$as env DEBIAN_FRONTEND=noninteractive apt-get -qq"
# shellcheck disable=SC2086 # a command and a list of package names
if ! { $apt update && $apt -y install --no-install-recommends $packages; } \
    >"${TMPDIR:-/tmp}/pf-setup.$$" 2>&1; then
    tail -n 5 "${TMPDIR:-/tmp}/pf-setup.$$" >&2
    echo "setup: could not install all of:$packages" >&2
fi
rm -f "${TMPDIR:-/tmp}/pf-setup.$$"
