//! `classic`: from a validated SYN cookie, or the client's handshake with `synproxy state`, to an
//! established connection with the server, as pf does it. The default way is in `splice`.
//!
//! The client believes it is connected; the filter now opens the connection to the server in its
//! place, with the cookie as initial sequence number, and joins both by translating sequence
//! numbers from then on. Names as in RFC 4987 and the notes on syncookies: C is the client's
//! initial sequence number, I the cookie, S the server's. Source: OpenBSD sys/net/pf.c
//! `pf_synproxy`.

use core::num::NonZeroU16;

use pfapi::reason::Reason;

use super::tcp::{Level, TcpState};
use crate::packet_desc::TcpDesc;
use crate::seq::SeqNum;
use crate::wire::build::flags::{ACK, FIN, RST, SYN};

/// Numbers of a segment that the filter sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbers {
    /// Sequence number.
    pub seq: SeqNum,
    /// Acknowledgement number.
    pub ack: SeqNum,
    /// Window field.
    pub window: u16,
}

/// What the filter does with a segment that meets a state in the proxy phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyStep {
    /// The segment is used up.
    Drop,
    /// Repeat the SYN|ACK of `synproxy state` to the client.
    Offer {
        /// The filter's initial sequence number.
        seq: SeqNum,
    },
    /// Send a SYN with this sequence number to the server.
    Connect {
        /// I, the cookie.
        seq: SeqNum,
        /// MSS option.
        mss: Option<u16>,
    },
    /// The server has answered: acknowledge to it, and open the client's window.
    Join {
        /// ACK to the server, in the name of the client.
        to_server: Numbers,
        /// ACK to the client, in the name of the server.
        to_client: Numbers,
    },
}

impl ProxyStep {
    /// Counted for every segment that does not go on.
    pub const REASON: Reason = Reason::Synproxy;
}

impl TcpState {
    /// Puts the state that the re-created SYN has made into the proxy phase.
    pub const fn begin_proxy(&mut self, client_isn: SeqNum, cookie: SeqNum) {
        self.src.seqlo = client_isn;
        self.src.seqhi = Some(cookie);
        self.dst.seqhi = Some(cookie);
        self.src.level = Level::ProxyDst;
    }

    /// Puts the state that the re-created SYN has made where the server is asked next.
    pub const fn begin_splice(&mut self) {
        self.src.level = Level::ProxyDst;
    }

    /// Puts the state of a SYN where the client is asked first, with a SYN|ACK that announces `mss`.
    pub const fn offer_splice(&mut self, mss: u16) {
        self.src.level = Level::ProxySrc;
        self.proxy_mss = NonZeroU16::new(mss);
    }

    /// Puts the state of a SYN into the proxy phase of `synproxy state`: the client gets a SYN|ACK
    /// with `isn` of the filter.
    pub const fn offer_proxy(&mut self, isn: SeqNum, mss: u16) {
        self.src.seqhi = Some(isn);
        self.dst.seqhi = Some(isn);
        self.src.level = Level::ProxySrc;
        self.proxy_mss = NonZeroU16::new(mss);
    }

    /// Whether the filter shakes hands in the place of one end.
    pub fn is_proxying(&self) -> bool {
        matches!(self.src.level, Level::ProxySrc | Level::ProxyDst)
    }

    /// Whether the client has completed its handshake and the server has not answered yet.
    pub fn is_waiting_for_server(&self) -> bool {
        self.src.level == Level::ProxyDst
    }

    /// The cookie, and the first sequence number of the client's data.
    fn proxy_numbers(&self) -> (SeqNum, SeqNum) {
        (self.src.seqhi.unwrap_or(self.src.seqlo), self.src.seqlo.advance(1))
    }

    /// Numbers of the RST that tells the client that its connection came to nothing.
    ///
    /// pf sends one less than the client expects, so strict clients ignore it.
    pub fn proxy_abort(&self) -> Numbers {
        let (cookie, client_next) = self.proxy_numbers();
        Numbers { seq: cookie, ack: client_next, window: 0 }
    }

    /// Moves the proxy phase on by one segment.
    pub fn proxy(&mut self, tcp: &TcpDesc, forward: bool) -> ProxyStep {
        if self.src.level == Level::ProxySrc {
            return self.proxy_handshake(tcp, forward);
        }
        if forward { self.proxy_from_client(tcp) } else { self.proxy_from_server(tcp) }
    }

    /// `synproxy state` before the client's ACK. Source: OpenBSD sys/net/pf.c `pf_synproxy`.
    fn proxy_handshake(&mut self, tcp: &TcpDesc, forward: bool) -> ProxyStep {
        let (isn, client_next) = self.proxy_numbers();
        let flags = tcp.flags & (SYN | ACK | RST | FIN);
        if forward && flags == SYN && SeqNum(tcp.seq) == self.src.seqlo {
            return ProxyStep::Offer { seq: isn };
        }
        let fits =
            flags == ACK && SeqNum(tcp.ack) == isn.advance(1) && SeqNum(tcp.seq) == client_next;
        if !forward || !fits {
            return ProxyStep::Drop;
        }
        self.src.level = Level::ProxyDst;
        self.proxy_from_client(tcp)
    }

    fn proxy_from_client(&mut self, tcp: &TcpDesc) -> ProxyStep {
        let (cookie, client_next) = self.proxy_numbers();
        let fits = tcp.flags & (SYN | ACK) == ACK
            && SeqNum(tcp.ack) == cookie.advance(1)
            && SeqNum(tcp.seq) == client_next;
        if !fits {
            return ProxyStep::Drop;
        }
        self.src.max_win = u32::from(tcp.window).max(1);
        ProxyStep::Connect { seq: cookie, mss: self.proxy_mss.map(NonZeroU16::get) }
    }

    fn proxy_from_server(&mut self, tcp: &TcpDesc) -> ProxyStep {
        let (cookie, client_next) = self.proxy_numbers();
        let joined = cookie.advance(1);
        if SeqNum(tcp.ack) != joined || !tcp.has(SYN | ACK) {
            return ProxyStep::Drop;
        }
        let server_isn = SeqNum(tcp.seq);
        let client_window = u16::try_from(self.src.max_win).unwrap_or(u16::MAX);
        let server_window = tcp.window.max(1);
        let to_server = Numbers { seq: joined, ack: server_isn.advance(1), window: client_window };
        let to_client = Numbers { seq: joined, ack: client_next, window: server_window };

        self.dst.max_win = u32::from(server_window);
        self.dst.seqlo = server_isn;
        self.dst.seen = true;
        self.src.seqdiff = cookie.0.wrapping_sub(self.src.seqlo.0);
        self.dst.seqdiff = cookie.0.wrapping_sub(server_isn.0);
        // The windows open behind the SYNs. pf counts them from the SYNs themselves, so that a
        // first segment that fills the window lies outside, and so does every repetition of it.
        self.src.seqhi = Some(client_next.advance(self.dst.max_win));
        self.dst.seqhi = Some(to_server.ack.advance(self.src.max_win));
        self.src.wscale = None;
        self.dst.wscale = None;
        self.src.level = Level::Established;
        self.dst.level = Level::Established;
        ProxyStep::Join { to_server, to_client }
    }

    /// Ends the connection on both sides.
    pub const fn close(&mut self) {
        self.src.level = Level::TimeWait;
        self.dst.level = Level::TimeWait;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::tcp::{Segment, Tracked};

    const CLIENT: u32 = 0x1122_3344;
    const COOKIE: u32 = 0x4da6_f1b1;
    const SERVER: u32 = 0xa0b0_c0d0;

    fn tcp(seq: u32, ack: u32, flags: u8, window: u16) -> TcpDesc {
        TcpDesc { sport: 40_000, dport: 443, seq, ack, flags, window, header: 20, payload: 0 }
    }

    fn proxying() -> TcpState {
        let mut state = TcpState::new(&tcp(CLIENT, 0, SYN, 8), None);
        state.begin_proxy(SeqNum(CLIENT), SeqNum(COOKIE));
        state.proxy_mss = NonZeroU16::new(1460);
        state
    }

    #[test]
    fn worked_numbers_of_a_connection() {
        let mut state = proxying();
        let ack = tcp(CLIENT + 1, COOKIE + 1, ACK, 502);
        assert_eq!(
            state.proxy(&ack, true),
            ProxyStep::Connect { seq: SeqNum(COOKIE), mss: Some(1460) }
        );
        let answer = tcp(SERVER, COOKIE + 1, SYN | ACK, 64_240);
        assert_eq!(
            state.proxy(&answer, false),
            ProxyStep::Join {
                to_server: Numbers {
                    seq: SeqNum(0x4da6_f1b2),
                    ack: SeqNum(0xa0b0_c0d1),
                    window: 502
                },
                to_client: Numbers {
                    seq: SeqNum(0x4da6_f1b2),
                    ack: SeqNum(0x1122_3345),
                    window: 64_240
                },
            }
        );
        assert_eq!(state.src.seqdiff, 0x3c84_be6d);
        assert_eq!(state.dst.seqdiff, 0xacf6_30e1);
        assert_eq!((state.src.level, state.dst.level), (Level::Established, Level::Established));
        assert!(!state.is_half_open());
    }

    #[test]
    fn first_segments_may_fill_the_windows() {
        let mut state = proxying();
        let _ = state.proxy(&tcp(CLIENT + 1, COOKIE + 1, ACK, 500), true);
        let _ = state.proxy(&tcp(SERVER, COOKIE + 1, SYN | ACK, 600), false);
        let fills = |seq, ack, payload| TcpDesc { payload, ..tcp(seq, ack, ACK, 500) };
        for (segment, forward) in [
            (fills(CLIENT + 1, COOKIE + 1, 600), true),
            (fills(SERVER + 1, COOKIE + 1, 500), false),
        ] {
            let segment = Segment { tcp: &segment, wscale: None, forward, random: 0 };
            assert!(matches!(state.track(&segment), Tracked::Accept(_)), "{segment:?}");
        }
    }

    #[test]
    fn other_segments_are_used_up_and_change_nothing() {
        for (segment, forward) in [
            (tcp(CLIENT + 2, COOKIE + 1, ACK, 1), true),
            (tcp(CLIENT + 1, COOKIE + 2, ACK, 1), true),
            (tcp(CLIENT + 1, COOKIE + 1, SYN | ACK, 1), true),
            (tcp(SERVER, COOKIE + 2, SYN | ACK, 1), false),
            (tcp(SERVER, COOKIE + 1, ACK, 1), false),
            (tcp(SERVER, 0, SYN, 1), false),
        ] {
            let mut state = proxying();
            assert_eq!(state.proxy(&segment, forward), ProxyStep::Drop, "{segment:?}");
            assert!(state.is_proxying());
        }
    }

    #[test]
    fn refusals_and_probes_are_used_up() {
        for (segment, forward) in
            [(tcp(0, COOKIE + 1, RST | ACK, 0), false), (tcp(CLIENT, COOKIE + 1, ACK, 502), true)]
        {
            let mut state = proxying();
            assert_eq!(state.proxy(&segment, forward), ProxyStep::Drop);
            assert!(state.is_proxying());
        }
    }
}
