//! The engine that all threads share: what is in force, and the control side.
//!
//! Packets never wait for the control side: they read one snapshot of the rules, and control
//! operations on states lock one state at a time.

mod end;
mod interfaces;
mod kept;
mod report;
mod tables;

pub use tables::TableName;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use arc_swap::ArcSwap;
use pfapi::check::{CheckedRuleset, Unsupported, unsupported};
use pfapi::control::{InterfaceTraffic, QueueReport};
use pfapi::facts::Facts;
use pfapi::limit::{Limit, Limits};
use pfapi::ruleset::{
    Altq, LogInterface, Options, QueueDef, Reassemble, Rule, ServerOptions, SourceLimiter,
    StateLimiter, Syncookies as SyncookieSetting, TableDef,
};
use pfapi::timeout::Timeouts;
use pfapi::units::Uptime;

use crate::environment::{Routes, Sockets};
use crate::fault::{self, Fault};
use crate::limiter::{LimiterError, Limiters};
use crate::nat::Mappings;
use crate::normalize::fragment::cache::Cache;
use crate::normalize::fragment::shared::Fragments;
use crate::queue::{FlowKey, PlanError, QueuePlan, QueueSource, number_queues};
use crate::rng::Rng;
use crate::rules::{
    Fingerprints, LoadedRules, Parts, Ruleset, Rulesets, Tag, Tags, settle_anchors, settle_tables,
    skipped,
};
use crate::source::SourceNodes;
use crate::state::key::HashSecret;
use crate::state::store::Store;
use crate::stats::{LimitCounters, Stats, Totals};
use crate::syncookie::servers::Servers;
use crate::syncookie::{Master as CookieSecret, Syncookies};
use crate::table::{Table, Tables};
use crate::worker::Worker;

/// States besides the half-open ones for which room is made where cookies are adaptive: those of
/// the packets that are on their way when they begin, and of questions.
const PREPARED_SLACK: u32 = 1_024;

/// What an engine must know when it is made.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Interfaces; an [`pfapi::units::IfIndex`] is a position in this list.
    pub facts: Facts,
    /// Seed of everything random: cookie keys, sequence numbers, hash secrets.
    pub seed: [u8; 32],
    /// This filter's id, not zero.
    pub hostid: u32,
}

/// Who loads a ruleset; shown by `pfctl -vsr`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loader {
    /// User id.
    pub uid: u32,
    /// Process id.
    pub pid: u32,
}

/// Why a ruleset could not be put in force; the old one stays.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// A limit would fall below what is in use.
    #[error("current pool size {in_use} exceeds requested {limit} limit {requested}")]
    LimitInUse {
        /// Which limit.
        limit: Limit,
        /// What the ruleset asked for.
        requested: u32,
        /// What is in use.
        in_use: u64,
    },
    /// There are 65535 tags already.
    #[error("no number is left for the tag `{name}`")]
    TooManyTags {
        /// The tag that has none.
        name: String,
    },
    /// `set limit anchors` would be exceeded.
    #[error("{count} anchors exceed the anchors limit {limit}")]
    TooManyAnchors {
        /// How many there would be.
        count: usize,
        /// The limit.
        limit: u32,
    },
    /// The queues do not fit together, or not to this router.
    #[error(transparent)]
    Queues(#[from] PlanError),
    /// `set limit tables` or `table-entries` would be exceeded.
    #[error("{count} {limit} exceed the limit of {max}; raise it with `set limit {limit} {count}`")]
    TooManyTables {
        /// Which limit.
        limit: Limit,
        /// How many there would be.
        count: usize,
        /// The limit.
        max: u32,
    },
    /// Limiters cannot be as the ruleset defines them.
    #[error(transparent)]
    Limiters(#[from] LimiterError),
    /// The ruleset has what this engine cannot evaluate as written.
    #[error("{0}")]
    Unsupported(Unsupported),
}

/// Why a table could not be changed or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// No such table.
    #[error("Table does not exist")]
    NotFound,
    /// The table is `const`.
    #[error("Operation not permitted")]
    Constant,
    /// `set limit tables` or `table-entries` would be exceeded.
    #[error("Cannot allocate memory")]
    Limit,
}

/// What a load puts in force as one step.
#[derive(Debug)]
pub struct Snapshot {
    /// Rules and tables.
    pub rules: LoadedRules,
    /// Timeouts.
    pub timeouts: Timeouts,
    /// Limits.
    pub limits: Limits,
    /// What becomes of fragments.
    pub reassemble: Reassemble,
    /// Whether packets are filtered at all.
    pub enabled: bool,
    /// `set fail-policy return`: a packet that a rule would let pass, and for whose state there is
    /// no room, is answered.
    pub fail_returns: bool,
    /// `set keepcounters`.
    pub keep_counters: bool,
    /// `set syncookies (...)`: what servers support of which no rule says it.
    pub server: Option<ServerOptions>,
    /// `set loginterface`.
    pub log_interface: Option<Arc<str>>,
    /// Interfaces and their addresses.
    pub facts: Arc<Facts>,
    /// Queues of the interfaces.
    pub queues: Arc<QueuePlan>,
    /// Number of the load that brought the queues.
    pub queues_epoch: u64,
}

impl Snapshot {
    /// Another handle on the same.
    pub fn share(&self) -> Self {
        Self {
            rules: self.rules.share(),
            facts: Arc::clone(&self.facts),
            log_interface: self.log_interface.clone(),
            queues: Arc::clone(&self.queues),
            ..*self
        }
    }
}

/// The queues for these rules and limits.
pub(super) fn adapt(queues: &QueuePlan, rules: &LoadedRules, limits: &Limits) -> Arc<QueuePlan> {
    let prioritized = rules.all_rules().any(|rule| rule.rule.set.prio.is_some());
    let delayed_max = usize::try_from(limits.get(Limit::PktdelayPkts)).unwrap_or(usize::MAX);
    Arc::new(queues.with(prioritized, delayed_max))
}

/// Whether so many anchors may exist; the main ruleset is none.
fn check_anchors(rulesets: &Rulesets, limit: u32) -> Result<(), LoadError> {
    let count = rulesets.len() - 1;
    if u32::try_from(count).unwrap_or(u32::MAX) > limit {
        return Err(LoadError::TooManyAnchors { count, limit });
    }
    Ok(())
}

/// Whether so many tables and addresses may exist, those of anchors that stay included.
fn check_tables(tables: &Tables, limits: &Limits) -> Result<(), LoadError> {
    for (limit, count) in [(Limit::Tables, tables.count()), (Limit::TableEntries, tables.entries())]
    {
        let max = limits.get(limit);
        if u32::try_from(count).unwrap_or(u32::MAX) > max {
            return Err(LoadError::TooManyTables { limit, count, max });
        }
    }
    Ok(())
}

/// A path inside the ruleset `root`.
fn join(root: &str, path: &str) -> String {
    match (root.is_empty(), path.is_empty()) {
        (true, _) => path.to_owned(),
        (false, true) => root.to_owned(),
        (false, false) => format!("{root}/{path}"),
    }
}

/// Puts the tables of a load into their places below `root`.
fn place_tables(tables: &mut Tables, root: &str, ruleset: &CheckedRuleset, now: Uptime) {
    let mut place = |path: &str, definition: &TableDef| {
        let path = join(root, path);
        let before = tables.get(&path, &definition.name).cloned();
        let table = Table::new(definition, before.as_deref(), now);
        tables.insert(&path, &definition.name, Arc::new(table));
    };
    ruleset.tables().for_each(|definition| place("", definition));
    for anchor in ruleset.anchors() {
        anchor.tables.iter().for_each(|definition| place(&anchor.path, definition));
    }
}

/// Tells tables that a load has replaced what stands in their place.
fn hand_over(old: &Tables, new: &Tables) {
    for (path, table) in old.iter() {
        let heir = new.get(path, table.name());
        if let Some(heir) = heir.filter(|heir| !Arc::ptr_eq(heir, table)) {
            table.succeed(heir);
        }
    }
}

/// The filter that all threads share.
#[derive(Debug)]
pub struct Engine {
    config: EngineConfig,
    /// This filter's id: that of the configuration until `set hostid`.
    pub(super) hostid: AtomicU32,
    pub(crate) snapshot: ArcSwap<Snapshot>,
    pub(crate) store: Store,
    pub(crate) sources: SourceNodes,
    pub(crate) mappings: Mappings,
    pub(crate) syncookies: Syncookies,
    /// What servers are known to support.
    pub(crate) servers: Servers,
    /// Octets of early data that states keep until their servers are there.
    pub(crate) early: Arc<AtomicUsize>,
    pub(crate) fragments: Fragments,
    pub(crate) limit_counters: LimitCounters,
    /// One load or table change at a time; also the clock marks that only the control side needs.
    control: Mutex<Control>,
    stats: Mutex<Vec<Arc<Stats>>>,
    /// What the control side counts: removals by flush and kill.
    control_removals: AtomicU64,
    /// Whether `classic` syncookies are set, for the packet path.
    pub(crate) classic: AtomicBool,
    rng: Mutex<Rng>,
    /// Entries of all tables in force.
    table_entries: Arc<AtomicU64>,
    /// Whether every rule is asked, without indexes.
    pub(crate) plainly: AtomicBool,
    pub(crate) routes: OnceLock<Box<dyn Routes>>,
    pub(crate) sockets: OnceLock<Box<dyn Sockets>>,
}

#[derive(Debug)]
struct Control {
    epoch: u64,
    /// Settings of the last load that have no other place; the optional ones are left out.
    options: Options,
    status_since: Uptime,
    counting_since: Uptime,
    cleared: Totals,
    cleared_removals: u64,
    cleared_sources: [u64; 3],
    /// What interfaces had counted when their counters were cleared, and when that was.
    cleared_interfaces: BTreeMap<String, (InterfaceTraffic, Uptime)>,
    started: Uptime,
}

impl Engine {
    /// A disabled engine with an empty ruleset.
    #[must_use]
    pub fn new(config: EngineConfig, now: Uptime) -> Arc<Self> {
        let mut rng = Rng::new(config.seed);
        let limits = Limits::default();
        let snapshot = Snapshot {
            rules: LoadedRules::empty(&config.facts, 0),
            timeouts: Timeouts::default(),
            limits,
            reassemble: Reassemble::Yes,
            enabled: false,
            fail_returns: false,
            keep_counters: false,
            server: None,
            log_interface: None,
            facts: Arc::new(config.facts.clone()),
            queues: Arc::default(),
            queues_epoch: 0,
        };
        // pf's ids begin with the time of the first enable; here a random word keeps the ids of
        // two runs apart.
        let first_id = u64::from(rng.next_u32()) << 32 | 1;
        Arc::new(Self {
            hostid: AtomicU32::new(config.hostid),
            snapshot: ArcSwap::from_pointee(snapshot),
            store: Store::new(limits.get(Limit::States), HashSecret(rng.key()), first_id),
            sources: SourceNodes::new(limits.get(Limit::SrcNodes)),
            mappings: Mappings::default(),
            syncookies: Syncookies::new(rng.seed()),
            servers: Servers::new(rng.key()),
            early: Arc::default(),
            fragments: Fragments::new(limits.get(Limit::Frags)),
            limit_counters: LimitCounters::default(),
            control: Mutex::new(Control {
                epoch: 0,
                options: Options::default(),
                status_since: now,
                counting_since: now,
                cleared: Totals::default(),
                cleared_removals: 0,
                cleared_sources: [0; 3],
                cleared_interfaces: BTreeMap::new(),
                started: now,
            }),
            stats: Mutex::new(Vec::new()),
            control_removals: AtomicU64::new(0),
            classic: AtomicBool::new(false),
            rng: Mutex::new(rng),
            table_entries: Arc::default(),
            plainly: AtomicBool::new(false),
            routes: OnceLock::new(),
            sockets: OnceLock::new(),
            config,
        })
    }

    /// A worker for one thread.
    #[must_use]
    pub fn worker(self: &Arc<Self>) -> Worker {
        let stats = Arc::new(Stats::default());
        stats.interfaces.reserve(self.snapshot.load().facts.interfaces.len());
        self.stats.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&stats));
        let seed = self.rng.lock().unwrap_or_else(PoisonError::into_inner).seed();
        Worker::new(Arc::clone(self), stats, Rng::new(seed))
    }

    /// Interfaces and their addresses.
    #[must_use]
    pub fn facts(&self) -> Arc<Facts> {
        Arc::clone(&self.snapshot.load().facts)
    }

    /// Tells of new addresses and groups: `(interface)`, `egress` and other groups in rules follow
    /// from now on. Interfaces keep their places; new ones come behind them.
    ///
    /// # Errors
    /// The name of an interface that is gone or has moved; nothing changes then.
    pub fn set_facts(&self, facts: Facts) -> Result<(), String> {
        let mut control = self.control();
        let old = self.snapshot.load_full();
        for (at, interface) in old.facts.interfaces.iter().enumerate() {
            if facts.interfaces.get(at).is_none_or(|new| new.name != interface.name) {
                return Err(interface.name.clone());
            }
        }
        control.epoch += 1;
        let rules = LoadedRules::new(old.rules.parts(), &facts, control.epoch);
        self.change(&control, |old| Snapshot { rules, facts: Arc::new(facts), ..old.share() });
        Ok(())
    }

    /// A secret that tells flows apart, for [`crate::queue::FlowKey::flow_of`].
    #[must_use]
    pub fn flow_key(&self) -> FlowKey {
        FlowKey(self.rng.lock().unwrap_or_else(PoisonError::into_inner).key())
    }

    /// The lines that the queues in force were made from, for loads that leave them as they are.
    #[must_use]
    pub fn queue_lines(&self) -> (Vec<QueueDef>, Vec<Altq>) {
        let lines = Arc::clone(&self.snapshot.load().queues.lines);
        (lines.queues.clone(), lines.altq.clone())
    }

    /// The lines that the limiters in force were made from, for loads that leave them as they are.
    #[must_use]
    pub fn limiter_lines(&self) -> (Vec<StateLimiter>, Vec<SourceLimiter>) {
        self.snapshot.load().rules.limiters.lines()
    }

    /// Every queue with its counters, and the number of the load that made them.
    #[must_use]
    pub fn queues(&self) -> (u64, Vec<QueueReport>) {
        let snapshot = self.snapshot.load();
        (snapshot.queues_epoch, snapshot.queues.report(&snapshot.facts))
    }

    /// Says what the wall clock shows at `now`, in nanoseconds since 1970. Cookies follow it, so that
    /// firewalls with the same secret accept each other's; to be told now and then, as clocks are
    /// set. Until the first call the clock counts from the uptime's start.
    pub fn set_unix_time(&self, unix_nanos: u64, now: Uptime) {
        self.syncookies.set_unix_time(unix_nanos, now);
    }

    /// Shares cookies with other firewalls: the first secret makes them, up to four are accepted. An
    /// empty list goes back to the random secret of this start.
    pub fn share_cookies(&self, secrets: &[CookieSecret], now: Uptime) {
        self.syncookies.share(secrets, now);
    }

    /// Takes every port behind the filter for open, so that SYNs get cookies at once where a ruleset
    /// would have the port asked first: for callers who know, and for tests.
    pub fn never_probe_ports(&self) {
        self.syncookies.never_probe();
    }

    /// Gives the engine a view of the routing table, once: for `no-route` and `urpf-failed`.
    pub fn use_routes(&self, routes: Box<dyn Routes>) {
        // A second view would change what rules mean in the middle of a batch.
        let _ = self.routes.set(routes);
    }

    /// Gives the engine a view of local sockets, once: for `user` and `group`.
    pub fn use_sockets(&self, sockets: Box<dyn Sockets>) {
        let _ = self.sockets.set(sockets);
    }

    /// Asks every rule of every ruleset, whatever their indexes say. The decisions are the same and
    /// take longer: this is for tests and benches that compare the two.
    pub fn ask_every_rule(&self, plainly: bool) {
        self.plainly.store(plainly, Ordering::Relaxed);
    }

    /// The settings in force, for a load that changes a part of them. Those that a load may leave
    /// out are left out.
    #[must_use]
    pub fn options(&self) -> Options {
        let control = self.control();
        let snapshot = self.snapshot.load();
        let Options { skip, fail_returns, keep_counters, .. } = control.options.clone();
        Options {
            limits: snapshot.limits,
            timeouts: snapshot.timeouts,
            skip,
            fail_returns,
            keep_counters,
            ..Options::default()
        }
    }

    fn control(&self) -> MutexGuard<'_, Control> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Half-open connections: the count that drives adaptive syncookies.
    #[must_use]
    pub fn half_open(&self) -> u64 {
        let gauges = &self.store.half_open;
        if self.classic.load(Ordering::Relaxed) {
            gauges.pf_states.load(Ordering::Relaxed)
        } else {
            gauges.connections.load(Ordering::Relaxed)
        }
    }

    /// Puts a ruleset in force as one step; states stay.
    ///
    /// # Errors
    /// When a limit falls below what is in use, and when the ruleset has what this engine cannot
    /// evaluate; nothing changes then.
    pub fn load(
        &self,
        ruleset: &CheckedRuleset,
        loader: Loader,
        now: Uptime,
    ) -> Result<(), LoadError> {
        self.load_at("", ruleset, loader, now)
    }

    /// Puts a ruleset in force as one step, in the place of the anchor `root` and of the anchors
    /// below it that the ruleset fills or that have no name; an empty path is the main ruleset.
    /// Settings are those of the main ruleset alone.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_at(
        &self,
        root: &str,
        ruleset: &CheckedRuleset,
        loader: Loader,
        now: Uptime,
    ) -> Result<(), LoadError> {
        if let Some(feature) = unsupported(ruleset).into_iter().next() {
            return Err(LoadError::Unsupported(feature));
        }
        if root.is_empty() {
            self.load_main(ruleset, loader, now)?;
        } else {
            self.load_anchor(root, ruleset, loader, now)?;
        }
        self.follow_cookie_rules(now);
        Ok(())
    }

    /// Counts destinations while marks ask for it: those of the setting, or of rules.
    pub(super) fn follow_cookie_rules(&self, now: Uptime) {
        self.syncookies.set_rules_adapt(self.snapshot.load().rules.cookies.adapt, now);
        self.store.half_open.backlog.set_counting(self.syncookies.wants_backlog());
        if let Some(connections) = self.syncookies.expected_half_open() {
            // A connection that is forwarded has two states.
            self.store.prepare(connections.saturating_mul(2).saturating_add(PREPARED_SLACK));
        }
    }

    fn load_anchor(
        &self,
        root: &str,
        ruleset: &CheckedRuleset,
        loader: Loader,
        now: Uptime,
    ) -> Result<(), LoadError> {
        let mut control = self.control();
        let old = self.snapshot.load_full();
        control.epoch += 1;
        let limit = old.limits.get(Limit::Anchors);
        let mut parts = old.rules.parts();
        let kept = old.keep_counters.then(|| self.kept_counters());
        place_tables(&mut parts.tables, root, ruleset, now);
        parts.limiters.check_repeated(ruleset.state_limiters(), ruleset.source_limiters())?;
        let mut places = (&mut parts.rulesets, &mut parts.tables, &parts.limiters);
        parts.tags = self.place(&old.rules, &mut places, (root, ruleset), control.epoch, loader)?;
        check_anchors(&parts.rulesets, limit)?;
        if !ruleset.queues().is_empty() || !ruleset.altq().is_empty() {
            return Err(PlanError::InAnchor.into());
        }
        let named = ruleset.rulesets();
        let named = named.iter().flat_map(|(_, rules)| rules.iter().copied());
        old.queues.check(&parts.tags.queues, named)?;
        check_tables(&parts.tables, &old.limits)?;
        if let Some(kept) = kept {
            kept.restore(&parts.rulesets, control.epoch);
        }
        if let Some(entries) = ruleset.fingerprints() {
            parts.fingerprints = Arc::new(Fingerprints::new(entries));
        }
        let rules = LoadedRules::new(parts, &old.facts, control.epoch);
        hand_over(&old.rules.tables, &rules.tables);
        let queues = adapt(&old.queues, &rules, &old.limits);
        self.change(&control, |old| Snapshot { rules, queues, ..old.share() });
        Ok(())
    }

    /// Puts the rules of a load into their places below `root` and drops what nobody names any
    /// more; gives the numbers of all tags.
    fn place(
        &self,
        old: &LoadedRules,
        (rulesets, tables, limiters): &mut (&mut Rulesets, &mut Tables, &Limiters),
        (root, ruleset): (&str, &CheckedRuleset),
        epoch: u64,
        loader: Loader,
    ) -> Result<Tags, LoadError> {
        let parts = ruleset.rulesets();
        let ruleset_dialect = ruleset.dialect();
        let mut tags = self.tags(old, parts.iter().flat_map(|(_, rules)| rules.iter().copied()))?;
        self.number_queues(&mut tags, ruleset)?;
        // Bodies without a name belong to their ruleset alone.
        let unnamed = if root.is_empty() { "_".to_owned() } else { format!("{root}/_") };
        rulesets.retain(|path, _| !path.starts_with(&unnamed));
        let mut contents: BTreeMap<String, Vec<&Rule>> = BTreeMap::new();
        for (path, rules) in &parts {
            contents.entry(join(root, path)).or_default().extend(rules);
        }
        for (path, rules) in contents {
            let ruleset = Ruleset::new(&path, rules, epoch, loader, &tags).of(ruleset_dialect);
            rulesets.insert(path, Arc::new(ruleset));
        }
        settle_tables(tables, rulesets, limiters);
        settle_anchors(rulesets, tables);
        Ok(tags)
    }

    fn load_main(
        &self,
        ruleset: &CheckedRuleset,
        loader: Loader,
        now: Uptime,
    ) -> Result<(), LoadError> {
        let mut control = self.control();
        let old = self.snapshot.load_full();
        let options = ruleset.options();
        let requested = options.limits.get(Limit::States);
        let in_use = self.store.count();
        if in_use > u64::from(requested) {
            return Err(LoadError::LimitInUse { limit: Limit::States, requested, in_use });
        }
        let (requested_nodes, nodes) = (options.limits.get(Limit::SrcNodes), self.sources.count());
        if nodes > u64::from(requested_nodes) {
            return Err(LoadError::LimitInUse {
                limit: Limit::SrcNodes,
                requested: requested_nodes,
                in_use: nodes,
            });
        }
        let mut tables = old.rules.tables.clone();
        place_tables(&mut tables, "", ruleset, now);
        control.epoch += 1;
        let mut rulesets = old.rules.rulesets.clone();
        let lines = (ruleset.state_limiters(), ruleset.source_limiters());
        let limiters = Limiters::new(lines.0, lines.1, &old.rules.limiters, now)?;
        let mut places = (&mut rulesets, &mut tables, &limiters);
        let tags = self.place(&old.rules, &mut places, ("", ruleset), control.epoch, loader)?;
        check_anchors(&rulesets, options.limits.get(Limit::Anchors))?;
        check_tables(&tables, &options.limits)?;
        if options.keep_counters {
            self.kept_counters().restore(&rulesets, control.epoch);
        }
        let skip = skipped(&options.skip, &old.facts);
        let source = QueueSource {
            queues: ruleset.queues(),
            altq: ruleset.altq(),
            facts: &old.facts,
            ids: &tags.queues,
        };
        let queues = QueuePlan::new(&source, &old.queues)?;
        let named = ruleset.rulesets();
        let named = named.iter().flat_map(|(_, rules)| rules.iter().copied());
        queues.check(&tags.queues, named)?;
        let fingerprints = ruleset.fingerprints().map_or_else(
            || Arc::clone(&old.rules.fingerprints),
            |entries| Arc::new(Fingerprints::new(entries)),
        );
        let parts = Parts { rulesets, tables, tags, fingerprints, skip, limiters };
        parts.limiters.apply(lines.0, lines.1, &parts.tables, now);
        let rules = LoadedRules::new(parts, &old.facts, control.epoch);
        hand_over(&old.rules.tables, &rules.tables);
        let queues = adapt(&queues, &rules, &options.limits);
        if fault::is(Fault::LoadFlushes) {
            let _ = self.end_states(|_| true);
        }
        self.store.set_limit(requested);
        self.set_other_limits(&options.limits);
        self.change(&control, |old| Snapshot {
            rules,
            timeouts: options.timeouts,
            limits: options.limits,
            reassemble: options.reassemble.unwrap_or(old.reassemble),
            enabled: old.enabled,
            fail_returns: options.fail_returns,
            keep_counters: options.keep_counters,
            server: options.syncookies.map_or(old.server, |setting| setting.server),
            log_interface: match &options.log_interface {
                None => old.log_interface.clone(),
                Some(LogInterface::None) => None,
                Some(LogInterface::Name(name)) => Some(Arc::from(name.as_str())),
            },
            facts: Arc::clone(&old.facts),
            queues,
            queues_epoch: control.epoch,
        });
        if let Some(hostid) = options.hostid {
            self.hostid.store(hostid, Ordering::Relaxed);
        }
        if let Some(setting) = options.syncookies {
            self.configure_syncookies(setting, now);
        }
        control.options = options.clone();
        Ok(())
    }

    /// Numbers for the tags that a ruleset names; those of before keep theirs.
    fn tags<'a>(
        &self,
        old: &LoadedRules,
        rules: impl Iterator<Item = &'a Rule>,
    ) -> Result<Tags, LoadError> {
        /// Tags that are kept without asking whether anything still carries them.
        const KEPT: usize = 16_384;
        let mut tags = old.tags.clone();
        if tags.len() > KEPT {
            let mut carried: BTreeSet<Tag> = old.all_rules().filter_map(|rule| rule.tag).collect();
            for slot in 0..self.store.slots() {
                carried.extend(self.store.lock(slot).and_then(|state| state.actions().tag));
            }
            tags.retain(|_, tag| carried.contains(&tag));
        }
        let names = rules.filter_map(|rule| rule.tag.as_ref().map(|tag| tag.as_str()));
        tags.add(names).map_err(|name| LoadError::TooManyTags { name })?;
        Ok(tags)
    }

    /// Numbers for the names of the queues of a load; those of before keep theirs.
    fn number_queues(&self, tags: &mut Tags, ruleset: &CheckedRuleset) -> Result<(), LoadError> {
        /// Names that are kept without asking whether anything still uses them.
        const KEPT: usize = 16_384;
        if tags.queues.len() > KEPT {
            let plan = Arc::clone(&self.snapshot.load().queues);
            let mut carried = BTreeSet::new();
            for slot in 0..self.store.slots() {
                let queue = self.store.lock(slot).and_then(|state| state.actions().queue);
                carried.extend(queue.into_iter().flat_map(|(queue, fast)| [queue, fast]));
            }
            tags.queues.retain(|_, &mut id| plan.has(id) || carried.contains(&id));
        }
        let names = ruleset.queues().iter().map(|queue| queue.name.as_str());
        let altq = ruleset.altq().iter().flat_map(|altq| &altq.queues);
        let names = names.chain(altq.map(|queue| queue.name.as_str()));
        if number_queues(&mut tags.queues, names) {
            Ok(())
        } else {
            Err(PlanError::TooManyNames.into())
        }
    }

    /// Limits of what is not in the store of states.
    fn set_other_limits(&self, limits: &Limits) {
        self.sources.set_limit(limits.get(Limit::SrcNodes));
        self.fragments.with(|cache| cache.set_limit(limits.get(Limit::Frags)));
    }

    fn configure_syncookies(&self, setting: SyncookieSetting, now: Uptime) {
        self.classic.store(setting.classic, Ordering::Relaxed);
        self.syncookies.configure(setting, now);
    }

    /// Replaces parts of the snapshot; the caller holds the control lock.
    fn change(&self, _control: &Control, change: impl FnOnce(&Snapshot) -> Snapshot) {
        let old = self.snapshot.load_full();
        let changed = Arc::new(change(&old));
        for (_, table) in changed.rules.tables.iter() {
            table.join(&self.table_entries);
        }
        self.snapshot.store(Arc::clone(&changed));
        let kept: BTreeSet<_> = changed.rules.tables.iter().map(|(_, t)| Arc::as_ptr(t)).collect();
        for (_, table) in old.rules.tables.iter() {
            if !kept.contains(&Arc::as_ptr(table)) {
                table.leave();
            }
        }
    }

    /// Enables or disables filtering; false when that was so already.
    #[must_use]
    pub fn set_enabled(&self, enabled: bool, now: Uptime) -> bool {
        let mut control = self.control();
        if self.snapshot.load().enabled == enabled {
            return false;
        }
        control.status_since = now;
        if enabled {
            control.counting_since = now;
        }
        self.change(&control, |old| Snapshot { enabled, ..old.share() });
        true
    }

    /// Compares every gauge with a recount, those of single destinations too. Not for a running
    /// packet path: the sweep sees states at different moments.
    ///
    /// # Errors
    /// Says what differs.
    pub fn check_invariants(&self) -> Result<(), String> {
        self.check_gauges()?;
        let slots = 0..self.store.slots();
        let counted = slots.filter_map(|slot| self.store.lock(slot)?.counted_destination());
        if !self.store.half_open.backlog.holds_only(counted) {
            return Err("half-open connections by destination differ from a recount".to_owned());
        }
        Ok(())
    }

    /// [`Self::check_invariants`] without the counts of destinations, which take longer: for a
    /// check after every packet.
    ///
    /// # Errors
    /// Says what differs.
    pub fn check_gauges(&self) -> Result<(), String> {
        let (mut states, mut connections, mut pf_states) = (0, 0, 0);
        for slot in 0..self.store.slots() {
            if let Some(state) = self.store.lock(slot) {
                let (connection, pf_state) = state.half_open_counts();
                states += 1;
                connections += u64::from(connection);
                pf_states += u64::from(pf_state);
            }
        }
        self.fragments.with(|cache| Cache::check_invariants(cache))?;
        let gauges = &self.store.half_open;
        let checks = [
            ("states", self.store.count(), states),
            ("half-open connections", gauges.connections.load(Ordering::Relaxed), connections),
            ("half-open states of pf", gauges.pf_states.load(Ordering::Relaxed), pf_states),
            (
                "table entries",
                self.table_entries.load(Ordering::Relaxed),
                self.snapshot.load().rules.tables.entries() as u64,
            ),
        ];
        for (what, gauge, recount) in checks {
            if gauge != recount {
                return Err(format!("{what}: the gauge says {gauge}, a recount {recount}"));
            }
        }
        Ok(())
    }
}
