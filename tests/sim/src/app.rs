//! Programs on the hosts: a client that asks for so many octets, and a server that sends them.
//!
//! The client's first 24 octets say how much each side sends and from which seed; the octets
//! that follow are compared with what the seed gives, so a lost, repeated or foreign octet is
//! found where it arrives. The client speaks first: behind a SYN cookie a connection exists only
//! for who repeats a lost packet.

use smoltcp::socket::tcp;

/// Octets of the request's head.
const HEAD: usize = 24;

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// Octets from client to server behind the head.
    pub up: u64,
    /// Octets from server to client.
    pub down: u64,
    /// Seed of both streams.
    pub seed: u64,
}

impl Order {
    fn head(self) -> [u8; HEAD] {
        let mut head = [0; HEAD];
        head[..8].copy_from_slice(&self.up.to_be_bytes());
        head[8..16].copy_from_slice(&self.down.to_be_bytes());
        head[16..].copy_from_slice(&self.seed.to_be_bytes());
        head
    }

    fn parse(head: [u8; HEAD]) -> Self {
        let word = |at: usize| u64::from_be_bytes(head[at..at + 8].try_into().unwrap_or_default());
        Self { up: word(0), down: word(8), seed: word(16) }
    }
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Not yet.
    Pending,
    /// All octets arrived and the other end has closed.
    Done,
    /// The connection broke.
    Reset,
}

/// One octet of a stream.
#[expect(clippy::cast_possible_truncation, reason = "one octet of a mixed word")]
fn octet(seed: u64, at: u64) -> u8 {
    let word = (seed ^ (at / 8)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((word ^ (word >> 29)) >> (8 * (at % 8))) as u8
}

/// One direction of a connection as its sender has come along.
#[derive(Clone, Copy, Debug)]
struct Stream {
    seed: u64,
    at: u64,
    len: u64,
}

impl Stream {
    const fn new(seed: u64, len: u64) -> Self {
        Self { seed, at: 0, len }
    }

    const fn is_done(&self) -> bool {
        self.at == self.len
    }

    fn send(&mut self, socket: &mut tcp::Socket<'_>) {
        while socket.can_send() && !self.is_done() {
            let (seed, at, left) = (self.seed, self.at, self.len - self.at);
            let sent = socket.send(|room| {
                let count = room.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                for (place, at) in room[..count].iter_mut().zip(at..) {
                    *place = octet(seed, at);
                }
                (count, count)
            });
            match sent {
                Ok(sent) if sent > 0 => self.at += sent as u64,
                _ => return,
            }
        }
    }

    /// Compares what arrived, at most `most` octets. Panics on the first difference.
    fn receive(&mut self, socket: &mut tcp::Socket<'_>, most: usize, whose: &str) {
        let mut left = most;
        while socket.can_recv() && left > 0 {
            let mut buffer = [0; 4_096];
            let room = left.min(buffer.len());
            let Ok(count) = socket.recv_slice(&mut buffer[..room]) else { return };
            for (&got, at) in buffer[..count].iter().zip(self.at..) {
                assert!(at < self.len, "{whose} got octets behind the end at {at}");
                assert_eq!(got, octet(self.seed, at), "{whose} got a wrong octet at {at}");
            }
            self.at += count as u64;
            left -= count;
        }
    }
}

/// The asking end.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    order: Order,
    head_sent: usize,
    up: Stream,
    down: Stream,
    /// How it ended.
    pub outcome: Outcome,
}

impl Client {
    /// A client that has sent nothing.
    #[must_use]
    pub const fn new(order: Order) -> Self {
        Self {
            order,
            head_sent: 0,
            up: Stream::new(order.seed, order.up),
            down: Stream::new(!order.seed, order.down),
            outcome: Outcome::Pending,
        }
    }

    /// Does what can be done; reads at most `most` octets.
    pub fn run(&mut self, socket: &mut tcp::Socket<'_>, most: usize) {
        if self.outcome != Outcome::Pending {
            return;
        }
        let head = self.order.head();
        if socket.can_send() && self.head_sent < HEAD {
            self.head_sent += socket.send_slice(&head[self.head_sent..]).unwrap_or(0);
        }
        if self.head_sent == HEAD {
            self.up.send(socket);
        }
        self.down.receive(socket, most, "client");
        let is_whole = self.head_sent == HEAD && self.up.is_done() && self.down.is_done();
        match socket.state() {
            tcp::State::Closed => self.outcome = Outcome::Reset,
            tcp::State::FinWait2 | tcp::State::TimeWait if is_whole => self.outcome = Outcome::Done,
            // The server acknowledges the client's FIN only behind all its octets.
            _ if is_whole => socket.close(),
            _ => {}
        }
    }

    /// How far the connection has come, for the log.
    #[must_use]
    pub fn progress(&self) -> String {
        format!("{:?}, up {}, down {}", self.outcome, self.up.at, self.down.at)
    }
}

/// The answering end of one connection.
#[derive(Clone, Debug, Default)]
pub struct Server {
    head: Vec<u8>,
    streams: Option<(Stream, Stream)>,
}

impl Server {
    /// Does what can be done; reads at most `most` octets.
    pub fn run(&mut self, socket: &mut tcp::Socket<'_>, most: usize) {
        while self.streams.is_none() && socket.can_recv() {
            let mut rest = vec![0; HEAD - self.head.len()];
            let Ok(count) = socket.recv_slice(&mut rest) else { break };
            self.head.extend(&rest[..count]);
            if let Ok(head) = <[u8; HEAD]>::try_from(self.head.as_slice()) {
                let order = Order::parse(head);
                let (up, down) =
                    (Stream::new(order.seed, order.up), Stream::new(!order.seed, order.down));
                self.streams = Some((up, down));
            }
        }
        if let Some((up, down)) = &mut self.streams {
            up.receive(socket, most, "server");
            down.send(socket);
            if up.is_done() && down.is_done() && !socket.may_recv() {
                socket.close();
            }
        } else if !socket.may_recv() && socket.state() == tcp::State::CloseWait {
            socket.close();
        }
    }
}
