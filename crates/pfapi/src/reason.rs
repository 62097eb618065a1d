//! Why a packet was dropped, and the other counters of `pfctl -s info`.

use serde::{Deserialize, Serialize};

macro_rules! named {
    ($(#[$outer:meta])* $type:ident { $($(#[$doc:meta])* $variant:ident = $name:literal,)+ }) => {
        $(#[$outer])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[repr(u8)]
        pub enum $type {
            $($(#[$doc])* #[serde(rename = $name)] $variant,)+
        }

        impl $type {
            /// Every variant, in print order.
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$variant),+];

            /// The word that pfctl prints.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

named! {
    /// Reason counter: one word in `pfctl -si`, one byte in pflog.
    ///
    /// Source: OpenBSD sys/net/pfvar.h `PFRES_*`; the numbers are those of the pflog header.
    Reason {
        /// Rule evaluation finished; counts passed packets too.
        Match = "match",
        /// A header offset pointed outside the packet.
        BadOffset = "bad-offset",
        /// Bad or refused fragment.
        Fragment = "fragment",
        /// Truncated packet or inconsistent lengths.
        Short = "short",
        /// Malformed packet.
        Normalize = "normalize",
        /// A table that is bounded by `set limit` is full.
        Memory = "memory",
        /// Timestamp check of `reassemble tcp`.
        BadTimestamp = "bad-timestamp",
        /// Input queue congested.
        Congestion = "congestion",
        /// IP options that no rule allows, or malformed ones.
        IpOption = "ip-option",
        /// Checksum wrong where an answer depends on it.
        ProtoCksum = "proto-cksum",
        /// Segment outside the window of its state.
        StateMismatch = "state-mismatch",
        /// Another state holds the key.
        StateInsert = "state-insert",
        /// The rule's `max` is reached.
        StateLimit = "state-limit",
        /// Source tracking refused.
        SrcLimit = "src-limit",
        /// Consumed by the handshake proxy; normal progress too.
        Synproxy = "synproxy",
        /// No address or port for translation.
        Translate = "translate",
        /// No route for route-to.
        NoRoute = "no-route",
    }
}

named! {
    /// Counters below "Limit Counters" in `pfctl -vsi`.
    LimitCounter {
        /// `max` of a rule was reached.
        MaxStates = "max states per rule",
        /// `max-src-states` was reached.
        MaxSrcStates = "max-src-states",
        /// `max-src-nodes` was reached.
        MaxSrcNodes = "max-src-nodes",
        /// `max-src-conn` was reached.
        MaxSrcConn = "max-src-conn",
        /// `max-src-conn-rate` was reached.
        MaxSrcConnRate = "max-src-conn-rate",
        /// Offenders put into an overload table.
        OverloadTable = "overload table insertion",
        /// States flushed by overload.
        OverloadFlush = "overload flush states",
        /// Adaptive syncookies switched on.
        Synfloods = "synfloods detected",
        /// Cookies sent.
        SyncookiesSent = "syncookies sent",
        /// Cookies that came back valid.
        SyncookiesValid = "syncookies validated",
    }
}

named! {
    /// Counters of SYN cookies in `pfctl -vsi`: those of Linux's SYNPROXY under their names, then
    /// ours.
    CookieCounter {
        /// SYNs that were answered with a cookie.
        SynReceived = "syn_received",
        /// ACKs that brought no cookie of ours, although one might have come.
        CookieInvalid = "cookie_invalid",
        /// ACKs that brought a valid cookie.
        CookieValid = "cookie_valid",
        /// ACKs of the client that made the filter repeat its SYN to the server.
        CookieRetrans = "cookie_retrans",
        /// Connections that began anew between the same ports.
        ConnReopened = "conn_reopened",
        /// Cookies of ours that came too late, by up to 45 s; later ones are invalid.
        Expired = "expired",
        /// Valid cookies that had opened a connection already.
        Replayed = "replayed",
        /// ACKs that were not checked, because too many came.
        Unchecked = "unchecked",
        /// SYNs to closed ports, answered with a RST without asking the server.
        EarlyReset = "early-reset",
        /// SYNs to unreachable ports, answered with an ICMP error likewise.
        EarlyUnreachable = "early-unreachable",
        /// SYNs that went on to the server, to learn whether the port is open.
        Probes = "probes",
        /// SYNs that were dropped while such an answer was awaited.
        AwaitingProbe = "awaiting-probe",
        /// Answers that were not sent, because they would have been more than the sender sent.
        Withheld = "withheld",
    }
}

named! {
    /// Counters of the blocks "State Table", "Source Tracking Table" and "Fragments".
    TableCounter {
        /// Look-ups.
        Searches = "searches",
        /// Entries made.
        Inserts = "inserts",
        /// Entries ended.
        Removals = "removals",
    }
}
