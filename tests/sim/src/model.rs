//! What the router may let through, known independently of the filter.
//!
//! A connection is let in by a SYN to an open port, or by an ACK that returns a cookie which the
//! filter has sent for it; it is shut out when its state is killed. The model does not know when
//! states expire, so it allows a little more than the filter should.

use std::collections::BTreeMap;

use pfapi::units::Uptime;

use crate::segment::{End, Segment, flags};

/// Seconds for which a cookie may come back: two rotations, and one of grace.
const COOKIE_LIFE_S: u64 = 45;

/// Client and server of a connection.
pub type Flow = (End, End);

/// What the router may let through.
#[derive(Clone, Debug, Default)]
pub struct Model {
    open: Vec<u16>,
    let_in: BTreeMap<Flow, Uptime>,
    cookies: BTreeMap<Flow, Vec<(u32, Uptime)>>,
}

impl Model {
    /// New rules are in force.
    pub fn load(&mut self, open: &[u16]) {
        open.clone_into(&mut self.open);
    }

    /// A packet arrives at the router.
    pub fn arrives(&mut self, now: Uptime, segment: &Segment) {
        if !self.open.contains(&segment.dst.1) {
            return;
        }
        let flow = (segment.src, segment.dst);
        let returns_cookie = || {
            self.cookies.get(&flow).is_some_and(|cookies| {
                cookies.iter().any(|&(cookie, at)| {
                    segment.ack == cookie.wrapping_add(1) && now.secs_since(at) <= COOKIE_LIFE_S
                })
            })
        };
        let is_ack = segment.flags & (flags::SYN | flags::ACK | flags::RST) == flags::ACK;
        if segment.opens() || is_ack && returns_cookie() {
            self.let_in.insert(flow, now);
        }
    }

    /// The filter answers an arriving packet itself.
    pub fn answers(&mut self, now: Uptime, answer: &Segment) {
        if answer.has(flags::SYN) && answer.has(flags::ACK) {
            let cookies = self.cookies.entry((answer.dst, answer.src)).or_default();
            cookies.retain(|(_, at)| now.secs_since(*at) <= COOKIE_LIFE_S);
            cookies.push((answer.seq, now));
        }
    }

    /// Whether a packet may leave the router.
    #[must_use]
    pub fn allows(&self, segment: &Segment) -> bool {
        let (forward, back) = ((segment.src, segment.dst), (segment.dst, segment.src));
        self.let_in.contains_key(&forward) || self.let_in.contains_key(&back)
    }

    /// The states of some connections were killed.
    pub fn kill(&mut self, which: impl Fn(&Flow) -> bool) {
        self.let_in.retain(|flow, _| !which(flow));
    }

    /// A connection that was let in, for who wants to kill one.
    #[must_use]
    pub fn any_flow(&self, choice: u64) -> Option<Flow> {
        let count = self.let_in.len() as u64;
        let at = usize::try_from(choice.checked_rem(count)?).ok()?;
        self.let_in.keys().nth(at).copied()
    }
}
