//! What the router may let through, known independently of the filter.
//!
//! A connection is let in by a SYN to an open port, or by an ACK that returns a cookie which the
//! filter has sent for it; it is shut out when its state is killed. The model does not know when
//! states expire, so it allows a little more than the filter should.
//!
//! Of translation it knows what addresses the rules may give, and that one outer pair of ends means
//! one connection until a new one begins with them: it learns each pair from the first packet that
//! leaves with it and holds all later ones, in both directions, to that.

use core::net::IpAddr;
use std::collections::BTreeMap;

use pfapi::units::Uptime;

use crate::segment::{End, Segment, flags};

/// Seconds for which a cookie may come back: two rotations, and one of grace.
const COOKIE_LIFE_S: u64 = 45;

/// Client and server of a connection.
pub type Flow = (End, End);

/// Lowest port of `nat-to` without `port`.
const NAT_PORT_LOW: u16 = 50_001;

/// What rules may translate.
#[derive(Clone, Copy, Debug)]
pub struct Translation {
    /// Source addresses of connections through `nat-to`.
    pub outer: [IpAddr; 2],
    /// What `rdr-to` sends elsewhere.
    pub redirected: [End; 2],
    /// And where.
    pub targets: [End; 2],
}

impl Translation {
    /// The server that a client reaches, or two when rules have changed meanwhile.
    fn is_target(&self, server: End, seen: End) -> bool {
        let mut pairs = self.redirected.iter().zip(&self.targets);
        server == seen || pairs.any(|pair| pair == (&server, &seen))
    }

    /// Whether a connection may look like this behind the router.
    fn fits(&self, (client, server): Flow, (source, target): Flow) -> bool {
        let hidden = self.outer.contains(&source.0) && source.1 >= NAT_PORT_LOW;
        (source == client || hidden) && self.is_target(server, target)
    }
}

/// What the router may let through.
#[derive(Clone, Debug)]
pub struct Model {
    open: Vec<u16>,
    translation: Translation,
    /// Whether `rdr-to` is in force.
    redirects: bool,
    /// Connections by what they look like behind the router.
    claims: BTreeMap<Flow, Flow>,
    let_in: BTreeMap<Flow, Uptime>,
    cookies: BTreeMap<Flow, Vec<(u32, Uptime)>>,
}

impl Model {
    /// A router that lets nothing through.
    #[must_use]
    pub fn new(translation: Translation) -> Self {
        Self {
            open: Vec::new(),
            translation,
            redirects: false,
            claims: BTreeMap::new(),
            let_in: BTreeMap::new(),
            cookies: BTreeMap::new(),
        }
    }

    /// New rules are in force.
    pub fn load(&mut self, open: &[u16], redirects: bool) {
        open.clone_into(&mut self.open);
        self.redirects = redirects;
    }

    /// The port that rules see.
    fn port(&self, server: End) -> u16 {
        let Translation { redirected, targets, .. } = &self.translation;
        let at = redirected.iter().position(|end| self.redirects && *end == server);
        at.map_or(server.1, |at| targets[at].1)
    }

    /// A packet arrives at the router.
    pub fn arrives(&mut self, now: Uptime, segment: &Segment) {
        if !self.open.contains(&self.port(segment.dst)) {
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

    /// A packet leaves the router; `origin` is what it was when it arrived, and nothing for a
    /// packet that the filter has made.
    ///
    /// # Errors
    /// Says why it must not.
    pub fn leaves(&mut self, origin: Option<&Segment>, segment: &Segment) -> Result<(), String> {
        let Some(origin) = origin else { return self.own_leaves(segment) };
        let forward = (origin.src, origin.dst);
        let back = (segment.dst, segment.src);
        let (flow, outer) = if self.let_in.contains_key(&forward) {
            (forward, (segment.src, segment.dst))
        } else if self.let_in.contains_key(&back) {
            (back, (origin.dst, origin.src))
        } else {
            return Err("nothing has let it in".to_owned());
        };
        if !self.translation.fits(flow, outer) {
            return Err(format!("no rule makes {outer:?} of {flow:?}"));
        }
        match self.claims.get(&outer) {
            Some(holder) if *holder == flow => Ok(()),
            // Its state may have expired; a new connection begins with a SYN.
            Some(holder) if !segment.opens() => {
                Err(format!("{outer:?} belongs to {holder:?}, not to {flow:?}"))
            }
            _ => {
                self.claims.insert(outer, flow);
                Ok(())
            }
        }
    }

    /// A packet of the filter's own leaves: it belongs to some connection that was let in.
    fn own_leaves(&mut self, segment: &Segment) -> Result<(), String> {
        let outer = (segment.src, segment.dst);
        let known = self.let_in.keys().any(|&(client, server)| {
            self.translation.fits((client, server), outer)
                || (segment.dst, segment.src) == (client, server)
        });
        if !known {
            return Err("nothing has let in what it is for".to_owned());
        }
        if segment.opens() {
            // A connection begins; whose it is, its own packets will tell.
            self.claims.remove(&outer);
        }
        Ok(())
    }

    /// Whether a connection may reach this server.
    #[must_use]
    pub fn reaches(&self, (_, seen): &Flow, server: IpAddr) -> bool {
        let Translation { redirected, targets, .. } = &self.translation;
        let mut pairs = redirected.iter().zip(targets);
        seen.0 == server || pairs.any(|(from, to)| from == seen && to.0 == server)
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
