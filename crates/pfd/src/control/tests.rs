//! Real sockets against a real engine: loads, hostile frames, missing rights.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use pfapi::control::{FRAME_MAX, FailureKind, Request, Response};
use pfapi::dialect::Dialect;
use pfapi::limit::Limit;
use pfapi::load::{Given, Part, Parts};
use pfapi::ruleset::{Action, AddrMatch, Anchor, Options, Pool, Rule, RuleKind, StatePolicy};
use pfengine::{Engine, EngineConfig};

use super::server::{CONNECTIONS_MAX, FRAME_MAX_READ_ONLY};
use super::*;
use crate::run::Clock;
use crate::testing;

/// A server in a folder of its own, which goes with it.
struct Fixture {
    folder: PathBuf,
    control: Option<Control>,
}

/// A client of either socket.
struct Client {
    reader: BufReader<UnixStream>,
}

fn folder() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("pfd-control-{}-{number}", std::process::id()))
}

fn sockets(folder: &std::path::Path) -> Result<Sockets, SocketError> {
    Sockets::bind(&folder.join("pfd.sock"), &folder.join("pfd-ro.sock"), Ownership::default())
}

impl Fixture {
    fn new() -> Self {
        let folder = folder();
        let clock = Clock::start();
        let facts = testing::config().facts();
        let engine = Engine::new(EngineConfig { facts, seed: [7; 32], hostid: 1 }, clock.now());
        let access = Access { uid: Some(nix::unistd::getuid().as_raw()), gid: 0 };
        let service = Service::new(engine, clock, access, crate::pflog::PacketLog::new());
        let control = Control::start(sockets(&folder).unwrap(), service).unwrap();
        Self { folder, control: Some(control) }
    }

    fn client(&self, socket: &str) -> Client {
        let stream = UnixStream::connect(self.folder.join(socket)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Client { reader: BufReader::new(stream) }
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        if let Some(control) = self.control.take() {
            control.stop().unwrap();
        }
        fs::remove_dir_all(&self.folder).unwrap();
    }
}

impl Client {
    fn send(&mut self, octets: &[u8]) {
        // The server may have hung up on purpose.
        let _ = self.reader.get_mut().write_all(octets);
    }

    fn receive(&mut self) -> Option<Response> {
        let mut line = String::new();
        self.reader.read_line(&mut line).ok()?;
        serde_json::from_str(&line).ok()
    }

    fn ask(&mut self, request: &Request) -> Response {
        let mut line = serde_json::to_vec(request).unwrap();
        line.push(b'\n');
        self.send(&line);
        self.receive().unwrap()
    }

    fn begin(&mut self) -> u32 {
        match self.ask(&Request::Begin {
            anchor: String::new(),
            dialect: Dialect::default(),
            parts: Parts::ALL,
        }) {
            Response::Ticket { ticket } => ticket,
            other => panic!("{other:?}"),
        }
    }
}

fn kind(response: &Response) -> Option<FailureKind> {
    match response {
        Response::Failed { kind, .. } => Some(*kind),
        _ => None,
    }
}

#[test]
fn load_goes_through() {
    let fixture = Fixture::new();
    let mut client = fixture.client("pfd.sock");
    let ticket = client.begin();
    let rules = vec![Rule::new(Action::Pass); 3];
    for request in [
        Request::AddOptions { ticket, options: Box::new(Options::default()), given: None },
        Request::AddTables { ticket, anchor: String::new(), tables: Vec::new() },
        Request::AddRules { ticket, anchor: String::new(), rules },
        Request::Commit { ticket },
    ] {
        assert_eq!(client.ask(&request), Response::Done, "{request:?}");
    }
    let again = client.ask(&Request::Commit { ticket });
    assert_eq!(kind(&again), Some(FailureKind::Busy));
}

/// Rules in force of a path, as text in their own form.
fn listed(client: &mut Client, anchor: &str) -> (Dialect, Vec<Rule>) {
    let mut answer = client.ask(&Request::Rules { anchor: anchor.to_owned() });
    let mut found = (Dialect::OpenBsd, Vec::new());
    loop {
        match answer {
            Response::Rules { dialect, rules } => {
                found.0 = dialect;
                found.1.extend(rules.into_iter().map(|report| report.rule));
            }
            Response::End | Response::Failed { kind: FailureKind::NotFound, .. } => return found,
            other => panic!("{other:?}"),
        }
        answer = client.receive().unwrap();
    }
}

#[test]
fn what_a_load_leaves_out_stays() {
    let fixture = Fixture::new();
    let mut client = fixture.client("pfd.sock");
    let mut load = |parts: &[Part], rules: Vec<(&str, Rule)>, options: Options, given| {
        let parts = parts.iter().copied().collect();
        let begin = Request::Begin { anchor: String::new(), dialect: Dialect::FreeBsd, parts };
        let Response::Ticket { ticket } = client.ask(&begin) else { panic!("no ticket") };
        let mut requests = vec![Request::AddOptions { ticket, options: Box::new(options), given }];
        for (anchor, rule) in rules {
            let anchor = anchor.to_owned();
            requests.push(Request::AddRules { ticket, anchor, rules: vec![rule] });
        }
        requests.push(Request::Commit { ticket });
        for request in requests {
            assert_eq!(client.ask(&request), Response::Done, "{request:?}");
        }
        let Response::Limits { limits } = client.ask(&Request::Limits) else { panic!("limits") };
        (listed(&mut client, ""), listed(&mut client, "_1").1.len(), limits)
    };
    let mut nat = Rule::new(Action::Pass);
    nat.kind = RuleKind::Nat;
    nat.nat = Some(Pool::new(AddrMatch::Net("192.0.2.1".parse().unwrap())).into());
    let mut call = Rule::new(Action::Pass);
    call.state = StatePolicy::None;
    call.anchor = Some(Box::new(Anchor { path: "_1".to_owned(), rules: Some(Vec::new()) }));
    let pass = Rule::new(Action::Pass);
    let mut options = Options::default();
    options.limits.set(Limit::States, 7000);
    let whole =
        vec![("", nat.clone()), ("", call.clone()), ("", pass.clone()), ("_1", pass.clone())];
    let ((dialect, rules), inside, limits) = load(&Part::ALL, whole, options, None);
    assert_eq!((dialect, inside), (Dialect::FreeBsd, 1));
    let kinds = |rules: &[Rule]| rules.iter().map(|rule| rule.kind).collect::<Vec<_>>();
    assert_eq!(kinds(&rules), [RuleKind::Nat, RuleKind::Filter, RuleKind::Filter]);
    assert_eq!(limits.get(Limit::States), 7000);

    // Only what translates: the filter stays with its anchor, and so do the settings.
    let two = vec![("", nat.clone()), ("", nat.clone())];
    let ((_, rules), inside, limits) = load(&[Part::Translation], two, Options::default(), None);
    let nat_nat = [RuleKind::Nat, RuleKind::Nat, RuleKind::Filter, RuleKind::Filter];
    assert_eq!((kinds(&rules), inside), (nat_nat.to_vec(), 1));
    assert_eq!(limits.get(Limit::States), 7000);

    // Only what filters: the anchor without a name is gone with its rule.
    let ((_, rules), inside, _) =
        load(&[Part::Filter], vec![("", pass.clone())], Options::default(), None);
    assert_eq!((kinds(&rules), inside), (vec![RuleKind::Nat, RuleKind::Nat, RuleKind::Filter], 0));

    // One setting of several.
    let mut options = Options::default();
    options.limits.set(Limit::Frags, 30);
    let given = Given { limits: vec![Limit::Frags], ..Given::default() };
    let ((_, rules), _, limits) =
        load(&[Part::Options], Vec::new(), options, Some(Box::new(given)));
    assert_eq!(rules.len(), 3);
    assert_eq!((limits.get(Limit::States), limits.get(Limit::Frags)), (7000, 30));
    // Without the word all others go back.
    let (_, _, limits) = load(&[Part::Options], Vec::new(), Options::default(), None);
    assert_eq!(limits, pfapi::limit::Limits::default());
}

#[test]
fn overtaken_load_is_busy() {
    let fixture = Fixture::new();
    let mut first = fixture.client("pfd.sock");
    let mut second = fixture.client("pfd.sock");
    let old = first.begin();
    let new = second.begin();
    assert_eq!(kind(&first.ask(&Request::Commit { ticket: old })), Some(FailureKind::Busy));
    assert_eq!(first.ask(&Request::Rollback { ticket: old }), Response::Done);
    assert_eq!(second.ask(&Request::Commit { ticket: new }), Response::Done);
}

#[test]
fn wrong_tickets_are_refused() {
    let fixture = Fixture::new();
    let mut client = fixture.client("pfd.sock");
    for ticket in [0, 1, 77, u32::MAX] {
        let request = Request::AddRules { ticket, anchor: String::new(), rules: Vec::new() };
        assert_eq!(kind(&client.ask(&request)), Some(FailureKind::Busy), "{ticket}");
        assert_eq!(kind(&client.ask(&Request::Commit { ticket })), Some(FailureKind::Busy));
    }
}

#[test]
fn drafts_are_checked_again() {
    let fixture = Fixture::new();
    let mut client = fixture.client("pfd.sock");
    let ticket = client.begin();
    let mut rule = Rule::new(Action::Pass);
    rule.to.port = Some(pfapi::port::PortMatch::Range(9, 1));
    client.ask(&Request::AddRules { ticket, anchor: String::new(), rules: vec![rule] });
    let Response::Failed { kind, message } = client.ask(&Request::Commit { ticket }) else {
        panic!("accepted");
    };
    assert_eq!(kind, FailureKind::Invalid);
    assert_eq!(message, "rule 0: port only applies to tcp/udp; rule 0: invalid port range 9:1");
}

#[test]
fn connection_that_goes_leaves_no_load() {
    let fixture = Fixture::new();
    let mut first = fixture.client("pfd.sock");
    let ticket = first.begin();
    drop(first);
    let mut second = fixture.client("pfd.sock");
    for _ in 0..100 {
        let answer =
            second.ask(&Request::AddRules { ticket, anchor: String::new(), rules: Vec::new() });
        if kind(&answer) == Some(FailureKind::Busy) {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("the load is still open");
}

#[test]
fn read_only_socket_answers_but_changes_nothing() {
    let fixture = Fixture::new();
    let mut client = fixture.client("pfd-ro.sock");
    let Response::Facts { facts } = client.ask(&Request::Facts) else { panic!("no facts") };
    assert_eq!(facts, testing::config().facts());
    let table = || "t".to_owned();
    for request in [
        Request::Begin { anchor: String::new(), dialect: Dialect::default(), parts: Parts::ALL },
        Request::Commit { ticket: 1 },
        Request::Rollback { ticket: 1 },
        Request::Enable,
        Request::Disable,
        Request::TableAdd { anchor: String::new(), table: table(), entries: Vec::new() },
        Request::TableDelete { anchor: String::new(), table: table(), entries: Vec::new() },
        Request::Flush { what: pfapi::control::Flush::Rules { anchor: String::new() } },
        Request::KillStates { filter: pfapi::control::KillFilter::Label { label: table() } },
        Request::ClearRuleCounters,
    ] {
        let answer = client.ask(&request);
        assert_eq!(kind(&answer), Some(FailureKind::Permission), "{request:?}");
    }
}

#[test]
fn garbage_is_malformed_and_the_connection_goes_on() {
    let fixture = Fixture::new();
    let mut client = fixture.client("pfd.sock");
    for garbage in [
        &b"\n"[..],
        b"hello\n",
        b"{\"request\":\"reboot\"}\n",
        b"{\"request\":\"begin\"\n",
        b"{\"request\":\"commit\",\"ticket\":-1}\n",
        b"{\"request\":\"commit\",\"ticket\":4294967296}\n",
        b"\xff\xfe\0\0\n",
        b"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\n",
    ] {
        client.send(garbage);
        let answer = client.receive().unwrap();
        assert_eq!(kind(&answer), Some(FailureKind::Malformed), "{garbage:?}");
    }
    let mut deep = vec![b'['; 100_000];
    deep.push(b'\n');
    client.send(&deep);
    assert_eq!(kind(&client.receive().unwrap()), Some(FailureKind::Malformed));
    assert!(matches!(client.ask(&Request::Facts), Response::Facts { .. }));
}

#[test]
fn frame_that_is_too_long_ends_the_connection() {
    let fixture = Fixture::new();
    for (socket, max) in [("pfd.sock", FRAME_MAX), ("pfd-ro.sock", FRAME_MAX_READ_ONLY)] {
        let mut client = fixture.client(socket);
        client.send(&vec![b' '; max]);
        assert_eq!(kind(&client.receive().unwrap()), Some(FailureKind::Malformed));
        let mut rest = Vec::new();
        assert!(client.reader.read_to_end(&mut rest).is_err() || rest.is_empty());
    }
}

#[test]
fn half_frame_is_no_request() {
    let fixture = Fixture::new();
    let mut client = fixture.client("pfd.sock");
    client.send(b"{\"request\":\"begin\"}");
    client.reader.get_mut().shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(client.receive(), None);
}

#[test]
fn requests_may_be_sent_ahead() {
    let fixture = Fixture::new();
    let mut client = fixture.client("pfd.sock");
    client.send(b"{\"request\":\"begin\"}\n{\"request\":\"begin\"}\n{\"request\":\"facts\"}\n");
    assert_eq!(client.receive(), Some(Response::Ticket { ticket: 1 }));
    assert_eq!(client.receive(), Some(Response::Ticket { ticket: 2 }));
    assert!(matches!(client.receive(), Some(Response::Facts { .. })));
}

#[test]
fn silent_connections_do_not_hold_up_others() {
    let fixture = Fixture::new();
    let mut open: Vec<_> = (0..CONNECTIONS_MAX).map(|_| fixture.client("pfd-ro.sock")).collect();
    for client in &mut open {
        assert!(matches!(client.ask(&Request::Facts), Response::Facts { .. }));
    }
    let mut one_more = fixture.client("pfd-ro.sock");
    assert_eq!(kind(&one_more.receive().unwrap()), Some(FailureKind::Limit));
    // The control socket has places of its own.
    assert!(matches!(fixture.client("pfd.sock").ask(&Request::Facts), Response::Facts { .. }));
    open.clear();
    for _ in 0..100 {
        let mut client = fixture.client("pfd-ro.sock");
        client.send(b"{\"request\":\"facts\"}\n");
        if let Some(Response::Facts { .. }) = client.receive() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("no place became free");
}

#[test]
fn sockets_have_narrow_permissions_and_vanish() {
    let fixture = Fixture::new();
    let mode =
        |name: &str| fs::metadata(fixture.folder.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("pfd.sock"), mode("pfd-ro.sock")), (0o660, 0o664));
    let folder = fixture.folder.clone();
    drop(fixture);
    assert!(!folder.exists());
}

#[test]
fn live_socket_is_respected_and_stale_one_taken_over() {
    let fixture = Fixture::new();
    let error = sockets(&fixture.folder).unwrap_err();
    assert!(matches!(error, SocketError::Running(_)), "{error}");

    let folder = folder();
    fs::create_dir_all(&folder).unwrap();
    drop(UnixListener::bind(folder.join("pfd.sock")).unwrap());
    let taken = sockets(&folder).unwrap();
    drop(taken);
    assert!(!folder.join("pfd.sock").exists());

    fs::write(folder.join("pfd.sock"), "precious").unwrap();
    let error = sockets(&folder).unwrap_err();
    assert!(matches!(error, SocketError::NoSocket(_)), "{error}");
    assert_eq!(fs::read_to_string(folder.join("pfd.sock")).unwrap(), "precious");
    fs::remove_dir_all(folder).unwrap();
}
