//! Words with a fixed meaning in pf.conf(5), which no macro and no interface can be named after.
//!
//! The same lists as `reserved_always`, `reserved_openbsd` and `reserved_freebsd` in the grammar.

use std::sync::LazyLock;

use crate::dialect::Dialect;
use crate::wordset::WordSet;

static IN_OPENBSD: LazyLock<WordSet> =
    LazyLock::new(|| WordSet::new(all_keywords(Dialect::OpenBsd)));
static IN_FREEBSD: LazyLock<WordSet> =
    LazyLock::new(|| WordSet::new(all_keywords(Dialect::FreeBsd)));
static IN_MACOS: LazyLock<WordSet> = LazyLock::new(|| WordSet::new(all_keywords(Dialect::MacOs)));

/// In both dialects.
const ALWAYS: &[&str] = &[
    "af-to",
    "all",
    "allow-opts",
    "anchor",
    "antispoof",
    "any",
    "bandwidth",
    "binat-to",
    "bitmask",
    "block",
    "block-policy",
    "code",
    "debug",
    "divert-reply",
    "divert-to",
    "drop",
    "dup-to",
    "file",
    "fingerprints",
    "flags",
    "floating",
    "flush",
    "for",
    "fragment",
    "from",
    "global",
    "group",
    "hostid",
    "icmp-type",
    "icmp6-type",
    "if-bound",
    "in",
    "include",
    "inet",
    "inet6",
    "keep",
    "label",
    "limit",
    "load",
    "log",
    "loginterface",
    "match",
    "matches",
    "max",
    "max-mss",
    "max-pkt-rate",
    "max-src-conn",
    "max-src-conn-rate",
    "max-src-nodes",
    "max-src-states",
    "min-ttl",
    "modulate",
    "nat-to",
    "no",
    "no-df",
    "no-route",
    "no-sync",
    "on",
    "once",
    "optimization",
    "os",
    "out",
    "overload",
    "pass",
    "pflow",
    "port",
    "prio",
    "probability",
    "proto",
    "qlimit",
    "queue",
    "quick",
    "random",
    "random-id",
    "rdr-to",
    "reassemble",
    "received-on",
    "reply-to",
    "return",
    "return-icmp",
    "return-icmp6",
    "return-rst",
    "round-robin",
    "route",
    "route-to",
    "rtable",
    "rule",
    "ruleset-optimization",
    "scrub",
    "set",
    "skip",
    "sloppy",
    "source-hash",
    "source-track",
    "state",
    "state-defaults",
    "state-policy",
    "static-port",
    "sticky-address",
    "syncookies",
    "synproxy",
    "table",
    "tag",
    "tagged",
    "timeout",
    "to",
    "tos",
    "ttl",
    "urpf-failed",
    "user",
];

/// Only on OpenBSD.
const OPENBSD: &[&str] = &[
    "burst",
    "default",
    "delay",
    "divert-packet",
    "flows",
    "least-states",
    "min",
    "parent",
    "quantum",
    "rdomain",
    "weight",
];

/// Only on FreeBSD.
const FREEBSD: &[&str] = &[
    "allow-related",
    "altq",
    "binat",
    "binat-anchor",
    "bridge-to",
    "buckets",
    "cbq",
    "codel",
    "dnpipe",
    "dnqueue",
    "endpoint-independent",
    "ether",
    "fail-policy",
    "fairq",
    "fastroute",
    "hfsc",
    "hogs",
    "keepcounters",
    "l3",
    "linkshare",
    "map-e-portset",
    "max-pkt-size",
    "nat",
    "nat-anchor",
    "prefer-ipv6-nexthop",
    "priority",
    "priq",
    "rdr",
    "rdr-anchor",
    "realtime",
    "require-order",
    "ridentifier",
    "set-tos",
    "target",
    "tbrsize",
    "upperlimit",
];

/// On macOS besides: what its statements start with, and no word elsewhere.
const MACOS: &[&str] = &["dummynet-anchor", "scrub-anchor"];

const fn own(dialect: Dialect) -> [&'static [&'static str]; 2] {
    match dialect {
        Dialect::OpenBsd => [OPENBSD, &[]],
        Dialect::FreeBsd => [FREEBSD, &[]],
        Dialect::MacOs => [FREEBSD, MACOS],
    }
}

/// Whether a word has a fixed meaning in a dialect.
pub(crate) fn is_keyword(word: &str, dialect: Dialect) -> bool {
    match dialect {
        Dialect::OpenBsd => IN_OPENBSD.contains(word),
        Dialect::FreeBsd => IN_FREEBSD.contains(word),
        Dialect::MacOs => IN_MACOS.contains(word),
    }
}

/// Whether a word has a fixed meaning in any dialect.
pub(crate) fn is_keyword_somewhere(word: &str) -> bool {
    IN_OPENBSD.contains(word) || IN_FREEBSD.contains(word)
}

/// The words of a dialect.
pub(crate) fn all_keywords(dialect: Dialect) -> impl Iterator<Item = &'static str> {
    ALWAYS.iter().chain(own(dialect).into_iter().flatten()).copied()
}
