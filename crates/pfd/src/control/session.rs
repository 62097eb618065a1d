//! What each request does. Knows no sockets: answers go to a sink.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pfapi::check::{ANCHOR_PATH_MAX, TABLE_NAME_MAX};
use pfapi::control::{FailureKind, ITEMS_PER_FRAME, Request, Response};
use pfengine::{Engine, LoadError, Loader, TableError, TableName};

use super::access::{Access, Peer};
use super::load::{DraftBuilder, LoadFailure, Loads, Target};
use crate::pflog::PacketLog;
use crate::run::Clock;
use crate::secret::ClusterSecret;

/// What all connections share.
#[derive(Debug)]
pub struct Service {
    engine: Arc<Engine>,
    clock: Clock,
    access: Access,
    loads: Mutex<Loads>,
    log: PacketLog,
    secret: Option<ClusterSecret>,
}

/// Who asks, and where.
#[derive(Clone, Copy, Debug)]
pub struct Asker {
    /// The process at the other end.
    pub peer: Peer,
    /// Number of the connection.
    pub connection: u64,
    /// Whether it came by the socket that only answers questions.
    pub read_only: bool,
}

/// Where answers go.
type Sink<'a> = &'a mut dyn FnMut(&Response) -> io::Result<()>;

impl Service {
    /// A service for this engine.
    #[must_use]
    pub fn new(engine: Arc<Engine>, clock: Clock, access: Access, log: PacketLog) -> Self {
        Self { engine, clock, access, loads: Mutex::default(), log, secret: None }
    }

    /// The same, reading the secrets again whenever a ruleset is loaded.
    #[must_use]
    pub fn with_secret(self, secret: ClusterSecret) -> Self {
        Self { secret: Some(secret), ..self }
    }

    /// Answers one frame.
    ///
    /// # Errors
    /// Only those of the sink.
    pub fn answer_frame(&self, asker: Asker, frame: &[u8], sink: Sink<'_>) -> io::Result<()> {
        match serde_json::from_slice(frame) {
            Ok(request) => self.answer(asker, request, frame.len(), sink),
            Err(error) => sink(&failed(FailureKind::Malformed, format!("no request: {error}"))),
        }
    }

    /// Forgets what a connection left unfinished.
    pub fn closed(&self, connection: u64) {
        self.loads().connection_closed(connection);
    }

    fn answer(
        &self,
        asker: Asker,
        request: Request,
        octets: usize,
        sink: Sink<'_>,
    ) -> io::Result<()> {
        if is_reserved(&request) {
            if asker.read_only {
                let message = "this socket only answers questions; use the control socket";
                return sink(&failed(FailureKind::Permission, message));
            }
            if !self.access.may_change(asker.peer) {
                let message = "only root and the group of the socket may change the firewall";
                return sink(&failed(FailureKind::Permission, message));
            }
        }
        match request {
            Request::Rules { anchor } => self.list_rules(&anchor, sink),
            Request::Queues => self.list_queues(sink),
            Request::States { interface } => self.list_states(interface.as_deref(), sink),
            Request::Sources => self.list_sources(sink),
            Request::LimiterSources { id } => self.list_limiter_sources(id, sink),
            Request::Tables => self.list_tables(sink),
            Request::Interfaces => self.list_interfaces(sink),
            Request::Fingerprints => self.list_fingerprints(sink),
            Request::TableShow { anchor, table } => self.list_entries((&anchor, &table), sink),
            Request::TableStatistics { anchor, table } => {
                self.list_statistics((&anchor, &table), sink)
            }
            request => {
                let answer = self.answer_single(asker, request, octets);
                sink(&answer.unwrap_or_else(|failure| failed(failure.kind, failure.message)))
            }
        }
    }

    /// Requests with one answer.
    fn answer_single(
        &self,
        asker: Asker,
        request: Request,
        octets: usize,
    ) -> Result<Response, LoadFailure> {
        let engine = &*self.engine;
        let now = self.clock.now();
        Ok(match request {
            Request::Begin { anchor, dialect, parts } => {
                check_anchor_path(&anchor)?;
                let target = Target { anchor, parts };
                Response::Ticket { ticket: self.loads().begin(asker.connection, target, dialect) }
            }
            Request::AddOptions { ticket, options, given } => {
                self.fill(ticket, octets, |draft| {
                    draft.set_options(*options);
                    draft.merge_options(given.map(|given| *given));
                    Ok(())
                })?
            }
            Request::AddTables { ticket, anchor, tables } => {
                self.fill(ticket, octets, |draft| {
                    draft.add_tables(&anchor, tables);
                    Ok(())
                })?
            }
            Request::AddRules { ticket, anchor, rules } => {
                self.fill(ticket, octets, |draft| draft.add_rules(&anchor, rules))?
            }
            Request::AddQueues { ticket, queues, altq } => self.fill(ticket, octets, |draft| {
                draft.add_queues(queues, altq);
                Ok(())
            })?,
            Request::AddLimiters { ticket, states, sources } => {
                self.fill(ticket, octets, |draft| draft.add_limiters(states, sources))?
            }
            Request::AddFingerprints { ticket, fingerprints } => {
                self.fill(ticket, octets, |draft| draft.add_fingerprints(fingerprints))?
            }
            Request::Commit { ticket } => self.commit(asker, ticket)?,
            Request::Rollback { ticket } => {
                self.loads().rollback(ticket);
                Response::Done
            }
            Request::Enable => changed(engine.set_enabled(true, now), "pf already enabled")?,
            Request::Disable => changed(engine.set_enabled(false, now), "pf not enabled")?,
            Request::Facts => Response::Facts { facts: engine.facts().as_ref().clone() },
            Request::Info => Response::Info { info: Box::new(engine.info(now)) },
            Request::Anchors => Response::Anchors { paths: engine.anchors() },
            Request::Timeouts => Response::Timeouts { timeouts: engine.timeouts() },
            Request::Limits => Response::Limits { limits: engine.limits() },
            Request::TableAdd { anchor, table, entries } => {
                check_anchor_path(&anchor)?;
                check_table_name(&table)?;
                let (changed, created) = engine.table_add((&anchor, &table), &entries, now)?;
                Response::TableChanged { changed, created }
            }
            Request::TableDelete { anchor, table, entries } => {
                let changed = engine.table_delete((&anchor, &table), &entries)?;
                Response::TableChanged { changed, created: false }
            }
            Request::TableKill { anchor, table } => {
                engine.table_kill((&anchor, &table))?;
                Response::Count { count: 1 }
            }
            Request::TableZero { anchor, table, entries } => {
                let changed = engine.table_zero((&anchor, &table), &entries, now)?;
                // Without addresses it was the table, and a large one has no end.
                let changed = if entries.is_empty() { Vec::new() } else { changed };
                Response::TableChanged { changed, created: false }
            }
            Request::TableExpire { anchor, table, age_s } => {
                let count = engine.table_expire((&anchor, &table), age_s, now)?.len() as u64;
                Response::Count { count }
            }
            Request::TableTest { anchor, table, addrs } => {
                Response::TableMatches { matches: engine.table_test((&anchor, &table), &addrs)? }
            }
            Request::Flush { what } => Response::Count { count: engine.flush(&what, now) },
            Request::KillStates { filter } => {
                Response::Count { count: engine.kill_states(&filter, now) }
            }
            Request::KillSources { sources, destinations } => {
                Response::Count { count: engine.kill_sources(&sources, &destinations) }
            }
            Request::ClearRuleCounters => {
                engine.clear_rule_counters();
                Response::Done
            }
            Request::Limiters => limiters(engine),
            Request::Log { interface, from } => {
                Response::Log { page: self.log.ring().page(interface, from) }
            }
            Request::Rules { .. }
            | Request::Queues
            | Request::States { .. }
            | Request::Sources
            | Request::LimiterSources { .. }
            | Request::Tables
            | Request::Interfaces
            | Request::Fingerprints
            | Request::TableShow { .. }
            | Request::TableStatistics { .. } => Response::End,
        })
    }

    /// Puts the octets of one more frame into the ruleset that a ticket stands for.
    fn fill(
        &self,
        ticket: u32,
        octets: usize,
        put: impl FnOnce(&mut DraftBuilder) -> Result<(), LoadFailure>,
    ) -> Result<Response, LoadFailure> {
        let mut loads = self.loads();
        let draft = loads.draft(ticket)?;
        draft.grow(octets)?;
        put(draft)?;
        Ok(Response::Done)
    }

    fn commit(&self, asker: Asker, ticket: u32) -> Result<Response, LoadFailure> {
        // Checked and put in force under the lock: no other load can come between.
        let mut loads = self.loads();
        let (target, mut draft) = loads.take(ticket)?;
        draft.keep(&self.engine, &target)?;
        let ruleset = draft.check()?;
        let loader = Loader { uid: asker.peer.uid, pid: asker.peer.pid };
        self.engine.load_at(&target.anchor, &ruleset, loader, self.clock.now())?;
        if let Some(secret) = self.secret.as_ref().filter(|_| target.anchor.is_empty()) {
            secret.reload();
        }
        Ok(Response::Done)
    }

    fn list_rules(&self, anchor: &str, sink: Sink<'_>) -> io::Result<()> {
        if !self.engine.has_anchor(anchor) {
            return sink(&failed(FailureKind::NotFound, "Anchor does not exist"));
        }
        let dialect = self.engine.dialect_of(anchor);
        let mut first = 0;
        loop {
            let rules = self.engine.rules_of(anchor, first, ITEMS_PER_FRAME);
            if rules.is_empty() {
                return sink(&Response::End);
            }
            first += rules.len();
            sink(&Response::Rules { dialect, rules })?;
        }
    }

    fn list_queues(&self, sink: Sink<'_>) -> io::Result<()> {
        let (set, queues) = self.engine.queues();
        for queues in queues.chunks(ITEMS_PER_FRAME) {
            sink(&Response::Queues { set, queues: queues.to_vec() })?;
        }
        sink(&Response::End)
    }

    fn list_states(&self, interface: Option<&str>, sink: Sink<'_>) -> io::Result<()> {
        let mut cursor = 0;
        loop {
            let now = self.clock.now();
            let mut states = self.engine.states(&mut cursor, ITEMS_PER_FRAME, now);
            if states.is_empty() {
                return sink(&Response::End);
            }
            states.retain(|state| interface.is_none_or(|name| state.interface == name));
            if !states.is_empty() {
                sink(&Response::States { states })?;
            }
        }
    }

    fn list_sources(&self, sink: Sink<'_>) -> io::Result<()> {
        for nodes in self.engine.sources(self.clock.now()).chunks(ITEMS_PER_FRAME) {
            sink(&Response::Sources { nodes: nodes.to_vec() })?;
        }
        sink(&Response::End)
    }

    fn list_limiter_sources(&self, id: u8, sink: Sink<'_>) -> io::Result<()> {
        for sources in self.engine.limiter_sources(id).chunks(ITEMS_PER_FRAME) {
            sink(&Response::LimiterSources { sources: sources.to_vec() })?;
        }
        sink(&Response::End)
    }

    fn list_tables(&self, sink: Sink<'_>) -> io::Result<()> {
        for tables in self.engine.tables(self.clock.now()).chunks(ITEMS_PER_FRAME) {
            sink(&Response::Tables { tables: tables.to_vec() })?;
        }
        sink(&Response::End)
    }

    fn list_interfaces(&self, sink: Sink<'_>) -> io::Result<()> {
        for interfaces in self.engine.interfaces(self.clock.now()).chunks(ITEMS_PER_FRAME) {
            sink(&Response::Interfaces { interfaces: interfaces.to_vec() })?;
        }
        sink(&Response::End)
    }

    fn list_fingerprints(&self, sink: Sink<'_>) -> io::Result<()> {
        for systems in self.engine.fingerprints().chunks(ITEMS_PER_FRAME) {
            sink(&Response::Fingerprints { systems: systems.to_vec() })?;
        }
        sink(&Response::End)
    }

    fn list_entries(&self, table: TableName<'_>, sink: Sink<'_>) -> io::Result<()> {
        let entries = match self.engine.table_entries(table) {
            Ok(entries) => entries,
            Err(error) => return sink(&table_failure(error)),
        };
        for part in entries.chunks(ITEMS_PER_FRAME) {
            sink(&Response::TableEntries { entries: part.to_vec() })?;
        }
        sink(&Response::End)
    }

    fn list_statistics(&self, table: TableName<'_>, sink: Sink<'_>) -> io::Result<()> {
        let entries = match self.engine.table_statistics(table, self.clock.now()) {
            Ok(entries) => entries,
            Err(error) => return sink(&table_failure(error)),
        };
        for part in entries.chunks(ITEMS_PER_FRAME) {
            sink(&Response::TableStatistics { entries: part.to_vec() })?;
        }
        sink(&Response::End)
    }

    fn loads(&self) -> MutexGuard<'_, Loads> {
        // A thread that panicked leaves a draft that is at worst incomplete; `check` sees to that.
        self.loads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a request changes anything, or shows what packets hold. Every request is listed, so that
/// a new one must be judged.
const fn is_reserved(request: &Request) -> bool {
    match request {
        Request::Begin { .. }
        | Request::AddOptions { .. }
        | Request::AddTables { .. }
        | Request::AddRules { .. }
        | Request::AddQueues { .. }
        | Request::AddLimiters { .. }
        | Request::AddFingerprints { .. }
        | Request::Commit { .. }
        | Request::Rollback { .. }
        | Request::Enable
        | Request::Disable
        | Request::TableAdd { .. }
        | Request::TableDelete { .. }
        | Request::TableKill { .. }
        | Request::TableZero { .. }
        | Request::TableExpire { .. }
        | Request::Flush { .. }
        | Request::KillStates { .. }
        | Request::KillSources { .. }
        | Request::ClearRuleCounters
        | Request::Log { .. } => true,
        Request::Facts
        | Request::Info
        | Request::Rules { .. }
        | Request::Anchors
        | Request::Interfaces
        | Request::Queues
        | Request::States { .. }
        | Request::Sources
        | Request::Limiters
        | Request::LimiterSources { .. }
        | Request::Timeouts
        | Request::Limits
        | Request::Tables
        | Request::TableShow { .. }
        | Request::TableStatistics { .. }
        | Request::Fingerprints
        | Request::TableTest { .. } => false,
    }
}

fn limiters(engine: &Engine) -> Response {
    let (states, sources) = engine.limiters();
    Response::Limiters { states, sources }
}

fn changed(changed: bool, otherwise: &str) -> Result<Response, LoadFailure> {
    if changed {
        Ok(Response::Done)
    } else {
        Err(LoadFailure::new(FailureKind::Unchanged, otherwise))
    }
}

fn check_anchor_path(path: &str) -> Result<(), LoadFailure> {
    let printable = path.bytes().all(|octet| octet.is_ascii_graphic() || octet >= 0x80);
    let plain = path.is_empty()
        || path.split('/').all(|name| !name.is_empty() && name != ".." && !name.contains('*'));
    if path.len() > ANCHOR_PATH_MAX || !printable || !plain {
        let message = format!("anchor path {path:?} must be names between slashes");
        return Err(LoadFailure::new(FailureKind::Invalid, message));
    }
    Ok(())
}

fn check_table_name(name: &str) -> Result<(), LoadFailure> {
    let printable = name.bytes().all(|octet| octet.is_ascii_graphic() || octet >= 0x80);
    if name.is_empty() || name.len() > TABLE_NAME_MAX || !printable {
        let message = format!("table name {name:?} must have 1 to {TABLE_NAME_MAX} characters");
        return Err(LoadFailure::new(FailureKind::Invalid, message));
    }
    Ok(())
}

/// The answer for a table that cannot be read.
fn table_failure(error: TableError) -> Response {
    let failure = LoadFailure::from(error);
    failed(failure.kind, failure.message)
}

/// An answer that says why not.
pub(super) fn failed(kind: FailureKind, message: impl Into<String>) -> Response {
    Response::Failed { kind, message: message.into() }
}

impl From<TableError> for LoadFailure {
    fn from(error: TableError) -> Self {
        let kind = match error {
            TableError::NotFound => FailureKind::NotFound,
            TableError::Constant => FailureKind::Constant,
            TableError::Limit => FailureKind::Limit,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<LoadError> for LoadFailure {
    fn from(error: LoadError) -> Self {
        let kind = match error {
            LoadError::LimitInUse { .. }
            | LoadError::TooManyTags { .. }
            | LoadError::TooManyAnchors { .. }
            | LoadError::TooManyTables { .. } => FailureKind::Limit,
            LoadError::Queues(_) | LoadError::Limiters(_) | LoadError::Unsupported(_) => {
                FailureKind::Invalid
            }
        };
        Self::new(kind, error.to_string())
    }
}
