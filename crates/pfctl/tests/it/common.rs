//! A daemon of a few lines: it reads frames from a real socket and answers from a script.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::thread::JoinHandle;

use pfapi::control::{Request, Response, RuleReport};
use pfapi::ruleset::Rule;

/// What the daemon does with a request.
pub enum Reply {
    /// Sends these frames.
    Frames(Vec<Response>),
    /// Sends these octets and closes the connection.
    Raw(Vec<u8>),
}

impl From<Response> for Reply {
    fn from(response: Response) -> Self {
        Self::Frames(vec![response])
    }
}

/// A rule that no packet has met yet, put in by process 1 of root.
pub fn unused(number: u32, rule: Rule) -> RuleReport {
    RuleReport {
        number,
        rule,
        expired: false,
        evaluations: 0,
        packets: [0; 2],
        bytes: [0; 2],
        states: 0,
        states_total: 0,
        uid: 0,
        pid: 1,
    }
}

/// A running daemon for one connection.
pub struct Daemon {
    /// Its socket.
    pub socket: PathBuf,
    thread: JoinHandle<Vec<Request>>,
    _folder: tempfile::TempDir,
}

impl Daemon {
    /// Starts it; `answer` is called once per request.
    pub fn start(mut answer: impl FnMut(&Request) -> Reply + Send + 'static) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("pfd.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let thread = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut requests = Vec::new();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let mut stream = stream;
            while let Some(Ok(line)) = lines.next() {
                assert!(line.len() < pfapi::control::FRAME_MAX);
                let request: Request = serde_json::from_str(&line).unwrap();
                let reply = answer(&request);
                requests.push(request);
                match reply {
                    Reply::Frames(frames) => {
                        for frame in frames {
                            let mut text = serde_json::to_vec(&frame).unwrap();
                            text.push(b'\n');
                            // The client may be gone already.
                            let _ = stream.write_all(&text);
                        }
                    }
                    Reply::Raw(octets) => {
                        let _ = stream.write_all(&octets);
                        break;
                    }
                }
            }
            requests
        });
        Self { socket, thread, _folder: folder }
    }

    /// Runs pfctl against the daemon; gives its output and all requests that came.
    pub fn run(self, args: &[&str], input: &str) -> (Outcome, Vec<Request>) {
        let socket = self.socket.to_str().unwrap().to_owned();
        let mut all = vec!["-p", &socket];
        all.extend(args);
        let outcome = pfctl(&all, input);
        (outcome, self.thread.join().unwrap())
    }
}

/// What a run left behind.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Exit status.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl From<Output> for Outcome {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// Runs the program.
pub fn pfctl(args: &[&str], input: &str) -> Outcome {
    let mut child = Command::new(env!("CARGO_BIN_EXE_pfctl"))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that does not read its input may close it first.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap().into()
}
