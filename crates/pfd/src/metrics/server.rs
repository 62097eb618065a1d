//! The smallest server that a monitoring system is content with: one request per connection, one
//! connection at a time, `GET /metrics` and nothing else.
//!
//! Who connects is not trusted: a request has 2 KiB and two seconds, and nothing of it is kept.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use pfengine::Engine;

use super::text;
use crate::run::Clock;

/// Octets of a request that are looked at.
const REQUEST_MAX: usize = 2 * 1024;
/// Time that a client has for its request, and for each piece of the answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Pause after a connection that could not be taken, so that a lack of descriptors costs no time.
const PAUSE: Duration = Duration::from_millis(100);

/// A server that runs.
#[derive(Debug)]
pub struct Metrics {
    addr: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Metrics {
    /// Takes the address; nobody is answered before [`Self::start`].
    ///
    /// # Errors
    /// When the address cannot be had.
    pub fn bind(addr: SocketAddr) -> io::Result<TcpListener> {
        TcpListener::bind(addr)
    }

    /// Answers until [`Self::stop`].
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn start(listener: TcpListener, engine: Arc<Engine>, clock: Clock) -> io::Result<Self> {
        let addr = listener.local_addr()?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::Builder::new().name("metrics".to_owned()).spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Acquire) {
                    return;
                }
                match stream {
                    // A client that goes away early is its own business.
                    Ok(stream) => drop(serve(stream, &engine, clock)),
                    Err(_) => thread::sleep(PAUSE),
                }
            }
        })?;
        Ok(Self { addr, stop, thread })
    }

    /// Where it listens.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Ends the server.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Release);
        // The thread waits for a connection.
        if TcpStream::connect_timeout(&self.addr, PATIENCE).is_ok() {
            let _ = self.thread.join();
        }
    }
}

fn serve(mut stream: TcpStream, engine: &Engine, clock: Clock) -> io::Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    let head = read_head(&mut stream)?;
    let mut words = head.split(|octet| *octet == b' ');
    let (status, kind, body) = match (words.next(), words.next()) {
        (Some(b"GET"), Some(b"/metrics")) => {
            let text = text::write(&engine.info(clock.now()));
            ("200 OK", "text/plain; version=0.0.4; charset=utf-8", text)
        }
        (Some(b"GET"), _) => ("404 Not Found", "text/plain", "only /metrics is here\n".to_owned()),
        _ => ("405 Method Not Allowed", "text/plain", "only GET is answered\n".to_owned()),
    };
    let len = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len}\r\n\
         Connection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())
}

/// The request up to its empty line, as far as it is looked at.
fn read_head(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let end = Instant::now() + PATIENCE;
    let mut head = Vec::with_capacity(REQUEST_MAX);
    let mut part = [0; 512];
    while head.len() < REQUEST_MAX && !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut part)? {
            0 => break,
            len => head.extend_from_slice(&part[..len]),
        }
    }
    Ok(head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pfapi::facts::Facts;
    use pfapi::units::Uptime;
    use pfengine::EngineConfig;

    fn ask(addr: SocketAddr, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(addr).unwrap();
        stream.write_all(request).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn metrics_are_there_and_nothing_else_is() {
        let config = EngineConfig { facts: Facts::default(), seed: [3; 32], hostid: 1 };
        let engine = Engine::new(config, Uptime::ZERO);
        let listener = Metrics::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let metrics = Metrics::start(listener, engine, Clock::start()).unwrap();
        let addr = metrics.addr();
        let answer = ask(addr, b"GET /metrics HTTP/1.1\r\nHost: here\r\n\r\n");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}");
        for line in [
            "pf_enabled 0",
            "pf_states 0",
            "pf_packets_total{reason=\"synproxy\"} 0",
            "pf_syncookies_info{mode=\"never\",behaviour=\"default\"} 1",
            "pf_syncookies_total{event=\"cookie_retrans\"} 0",
            "pf_limits_total{limit=\"synfloods detected\"} 0",
        ] {
            assert!(body.lines().any(|other| other == line), "{line} is not in\n{body}");
        }
        // Every metric is declared once, and every line is one.
        let mut names: Vec<&str> = body.lines().filter_map(|l| l.strip_prefix("# TYPE ")).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(ask(addr, b"GET / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404 "));
        assert!(ask(addr, b"POST /metrics HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405 "));
        metrics.stop();
        assert!(TcpStream::connect(addr).is_err());
    }
}
