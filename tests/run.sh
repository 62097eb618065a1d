#!/bin/bash
# Runs everything that a contributor needs before a commit and that CI runs; ends with counts.
#
# usage: tests/run.sh [lint]
#
# Every check counts as one test. Suites that need root and /dev/net/tun are skipped elsewhere,
# each test with a line that says why.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

target="${CARGO_TARGET_DIR:-$PWD/target}"
case "$target" in /*) ;; *) target="$PWD/$target" ;; esac
export PATH="$PATH:/usr/sbin:/sbin" CARGO_INCREMENTAL=0 RUST_BACKTRACE="${RUST_BACKTRACE:-0}"

passed=0
failed=0
skipped=0
faults=()
reasons=()

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

say() { printf '\n== %s ==\n' "$*"; }

skip() { # NAME REASON
    skipped=$((skipped + 1))
    reasons+=("$1: $2")
    echo "skipped: $1: $2"
}

# check NAME COMMAND...: a check that passes or fails as a whole.
check() {
    local name="$1"
    shift
    say "$name"
    if "$@"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        faults+=("$name")
    fi
}

# suite NAME COMMAND...: adds up what cargo-nextest or libtest counted.
suite() {
    local name="$1" status=0 counted_passed counted_failed
    shift
    say "$name"
    "$@" 2>&1 | tee "$work/output" || status=1
    read -r counted_passed counted_failed < <(
        awk '
            { gsub(/\033\[[0-9;]*m/, "") }
            /^ *Summary \[/ || /^test result: / {
                for (i = 2; i <= NF; i++) {
                    if ($i ~ /^passed/) passed += $(i - 1)
                    if ($i ~ /^failed/) failed += $(i - 1)
                    if ($i ~ /^timed/) failed += $(i - 1)
                }
            }
            END { print passed + 0, failed + 0 }' "$work/output"
    )
    # A suite that does not build fails without having counted anything.
    if [ "$status" -ne 0 ] && [ "$counted_failed" -eq 0 ]; then
        counted_failed=1
    fi
    if [ "$counted_failed" -gt 0 ]; then
        faults+=("$name: $counted_failed")
    fi
    passed=$((passed + counted_passed))
    failed=$((failed + counted_failed))
}

# Tests that found that they cannot run here count as passed for libtest; they say so in a file.
count_self_skipped() {
    local line count=0
    [ -e "$PF_SKIP_LOG" ] || return 0
    while IFS= read -r line; do
        count=$((count + 1))
        reasons+=("${line#skipped: }")
    done <"$PF_SKIP_LOG"
    passed=$((passed - count))
    skipped=$((skipped + count))
}

lint() {
    check 'cargo fmt' cargo fmt --all --check
    check 'cargo clippy' cargo clippy --workspace --all-targets --quiet -- -D warnings
    if command -v shellcheck >/dev/null; then
        check 'shellcheck' shellcheck .ci/run tests/*.sh tests/demo/*.sh
    else
        skip 'shellcheck' 'shellcheck is not installed'
    fi
    if ! compgen -G 'man/*.[1-9]' >/dev/null; then
        skip 'man pages' 'there are none'
    elif command -v mandoc >/dev/null; then
        check 'man pages' mandoc -T lint -W warning man/*.[1-9]
    else
        skip 'man pages' 'mandoc is not installed'
    fi
    if cargo deny --version >/dev/null 2>&1; then
        check 'cargo deny' cargo deny --log-level error check bans licenses sources
        if cargo deny fetch db >/dev/null 2>&1; then
            check 'cargo deny advisories' cargo deny --log-level error check advisories
        else
            skip 'cargo deny advisories' 'the advisory database cannot be fetched'
        fi
    else
        skip 'cargo deny' 'cargo-deny is not installed'
    fi
}

tests() {
    export PF_SKIP_LOG="$work/skipped" PF_BIN_DIR="$target/release"
    check 'release build' cargo build --release --workspace --quiet
    if cargo nextest --version >/dev/null 2>&1; then
        suite 'unit, golden and scenario tests' cargo nextest run --workspace \
            --exclude pf-netns --no-fail-fast --status-level fail --final-status-level fail
    else
        suite 'unit, golden and scenario tests' cargo test --workspace --exclude pf-netns \
            --no-fail-fast --quiet --lib --bins --tests
    fi
    suite 'doc tests' cargo test --workspace --doc --quiet
    # One at a time: some of them measure what a loaded machine would blur.
    suite 'end-to-end tests' cargo test -p pf-netns --test e2e -- --test-threads=1
    count_self_skipped
}

started=$SECONDS
lint
[ "${1:-}" = lint ] || tests

say "done in $((SECONDS - started)) s"
[ "${#reasons[@]}" -eq 0 ] || printf 'skipped: %s\n' "${reasons[@]}"
[ "${#faults[@]}" -eq 0 ] || printf 'failed: %s\n' "${faults[@]}"
echo "total: $passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
