//! Frames on a connection: one line of JSON each, bounded in size and time.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// Octets read at once; also how far a buffer grows beyond a frame.
const CHUNK: usize = 16 * 1024;
/// Buffers larger than this are given back after their frame.
const KEEP: usize = 64 * 1024;

/// How a read ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame {
    /// A line, without its newline.
    Line(Vec<u8>),
    /// The other end sent more than the bound without a newline.
    TooLong,
    /// The other end closed, or was idle for too long.
    Closed,
}

/// Reads frames of one connection.
#[derive(Debug)]
pub struct FrameReader {
    buffer: Vec<u8>,
    max: usize,
    patience: Duration,
}

impl FrameReader {
    /// A reader of frames of at most `max` octets, newline included, each within `patience`.
    pub const fn new(max: usize, patience: Duration) -> Self {
        Self { buffer: Vec::new(), max, patience }
    }

    /// The next frame.
    ///
    /// # Errors
    /// What the kernel says, but for the end of patience.
    pub fn next(&mut self, stream: &mut UnixStream) -> io::Result<Frame> {
        let deadline = Instant::now() + self.patience;
        let mut searched = 0;
        loop {
            if let Some(at) = self.buffer[searched..].iter().position(|&octet| octet == b'\n') {
                let end = searched + at;
                if end >= self.max {
                    return Ok(Frame::TooLong);
                }
                let rest = self.buffer.split_off(end + 1);
                let mut line = std::mem::replace(&mut self.buffer, rest);
                line.truncate(end);
                if self.buffer.capacity() > KEEP {
                    self.buffer.shrink_to(CHUNK);
                }
                return Ok(Frame::Line(line));
            }
            searched = self.buffer.len();
            if searched >= self.max {
                return Ok(Frame::TooLong);
            }
            let Some(left) = time_left(deadline) else { return Ok(Frame::Closed) };
            stream.set_read_timeout(Some(left))?;
            let mut chunk = [0; CHUNK];
            match stream.read(&mut chunk) {
                Ok(0) => return Ok(Frame::Closed),
                Ok(len) => self.buffer.extend_from_slice(&chunk[..len]),
                Err(error) if is_timeout(&error) => return Ok(Frame::Closed),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Writes all of `octets` within `patience`, however slowly the other end reads.
///
/// # Errors
/// [`io::ErrorKind::TimedOut`], or what the kernel says.
pub fn write_all(stream: &mut UnixStream, octets: &[u8], patience: Duration) -> io::Result<()> {
    let deadline = Instant::now() + patience;
    let mut written = 0;
    while written < octets.len() {
        let left = time_left(deadline).ok_or(io::ErrorKind::TimedOut)?;
        stream.set_write_timeout(Some(left))?;
        match stream.write(&octets[written..]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(len) => written += len,
            Err(error) if is_timeout(&error) => return Err(io::ErrorKind::TimedOut.into()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Time until `deadline`, never zero: a zero timeout would mean "wait for ever".
fn time_left(deadline: Instant) -> Option<Duration> {
    deadline.checked_duration_since(Instant::now()).filter(|left| *left >= Duration::from_millis(1))
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(max: usize) -> (UnixStream, UnixStream, FrameReader) {
        let (near, far) = UnixStream::pair().unwrap();
        (near, far, FrameReader::new(max, Duration::from_millis(300)))
    }

    #[test]
    fn lines_come_one_by_one() {
        let (mut near, mut far, mut reader) = pair(100);
        far.write_all(b"one\ntwo\n\nhalf").unwrap();
        drop(far);
        assert_eq!(reader.next(&mut near).unwrap(), Frame::Line(b"one".to_vec()));
        assert_eq!(reader.next(&mut near).unwrap(), Frame::Line(b"two".to_vec()));
        assert_eq!(reader.next(&mut near).unwrap(), Frame::Line(Vec::new()));
        assert_eq!(reader.next(&mut near).unwrap(), Frame::Closed);
    }

    #[test]
    fn frame_of_exactly_the_bound_is_read() {
        for (len, fits) in [(99, true), (100, false)] {
            let (mut near, mut far, mut reader) = pair(100);
            let mut line = vec![b'x'; len];
            line.push(b'\n');
            far.write_all(&line).unwrap();
            assert_eq!(reader.next(&mut near).unwrap() != Frame::TooLong, fits, "{len}");
        }
    }

    #[test]
    fn endless_line_is_refused_before_it_is_stored() {
        let (mut near, mut far, mut reader) = pair(100);
        let sender = std::thread::spawn(move || while far.write_all(&[b'x'; 4096]).is_ok() {});
        assert_eq!(reader.next(&mut near).unwrap(), Frame::TooLong);
        assert!(reader.buffer.len() <= 100 + CHUNK);
        drop(near);
        sender.join().unwrap();
    }

    #[test]
    fn dripping_sender_meets_the_deadline() {
        let (mut near, mut far, mut reader) = pair(100);
        let sender = std::thread::spawn(move || {
            while far.write_all(b"x").is_ok() {
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        assert_eq!(reader.next(&mut near).unwrap(), Frame::Closed);
        drop(near);
        sender.join().unwrap();
    }

    #[test]
    fn reader_that_stops_meets_the_deadline() {
        let (mut near, _far, _) = pair(100);
        let octets = vec![b'x'; 8 << 20];
        let error = write_all(&mut near, &octets, Duration::from_millis(200)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
