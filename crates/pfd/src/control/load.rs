//! Ruleset loads: drafts that grow, and the ticket that says whose draft is the valid one.

use std::collections::BTreeMap;

use pfapi::check::{self, CheckedRuleset, Place, RULES_MAX};
use pfapi::control::FailureKind;
use pfapi::dialect::Dialect;
use pfapi::load::{Given, Part, Parts};
use pfapi::osfp::{FINGERPRINTS_MAX, Fingerprint};
use pfapi::ruleset::{
    Altq, AnchorRuleset, Draft, LIMITER_ID_MAX, Options, QueueDef, Rule, SourceLimiter,
    StateLimiter, TableDef,
};
use pfengine::Engine;

use super::keep;

/// Octets of JSON that make up a draft at most: room for a million rules, and a bound on memory.
pub const DRAFT_OCTETS_MAX: usize = 512 << 20;
/// Mistakes that an answer lists at most.
const MISTAKES_SHOWN: usize = 10;

/// Why a step of a load failed; nothing changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadFailure {
    /// For the answer.
    pub kind: FailureKind,
    /// For the user.
    pub message: String,
}

impl LoadFailure {
    pub(crate) fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

/// A ruleset that comes in parts.
#[derive(Debug, Default)]
pub struct DraftBuilder {
    dialect: Dialect,
    options: Options,
    given: Option<Given>,
    /// Tables with the path of their anchor, which is empty for the main ruleset.
    tables: Vec<(String, TableDef)>,
    by_name: BTreeMap<(String, String), usize>,
    rules: Vec<Rule>,
    anchors: Vec<AnchorRuleset>,
    queues: Vec<QueueDef>,
    altq: Vec<Altq>,
    state_limiters: Vec<StateLimiter>,
    source_limiters: Vec<SourceLimiter>,
    fingerprints: Option<Vec<Fingerprint>>,
    octets: usize,
}

impl DraftBuilder {
    /// Accounts for a frame before its contents are added.
    ///
    /// # Errors
    /// When the draft is too large.
    pub fn grow(&mut self, octets: usize) -> Result<(), LoadFailure> {
        self.octets = self.octets.saturating_add(octets);
        if self.octets > DRAFT_OCTETS_MAX {
            let message = format!("the ruleset exceeds {DRAFT_OCTETS_MAX} octets");
            return Err(LoadFailure::new(FailureKind::Limit, message));
        }
        Ok(())
    }

    /// Says whose pf.conf the ruleset comes from.
    pub const fn set_dialect(&mut self, dialect: Dialect) {
        self.dialect = dialect;
    }

    /// Says which settings count; the others are those in force. `None`: all count.
    pub fn merge_options(&mut self, given: Option<Given>) {
        self.given = given;
    }

    /// Fills what the load leaves out with what is in force.
    ///
    /// # Errors
    /// When there are too many rules then.
    pub fn keep(&mut self, engine: &Engine, target: &Target) -> Result<(), LoadFailure> {
        let options = std::mem::take(&mut self.options);
        self.options = keep::options(engine, options, target.parts, self.given.as_ref());
        if target.parts.is_all() {
            return Ok(());
        }
        if target.anchor.is_empty() && !target.parts.has(Part::Queues) {
            (self.queues, self.altq) = engine.queue_lines();
        }
        if target.anchor.is_empty() && !target.parts.has(Part::Filter) {
            (self.state_limiters, self.source_limiters) = engine.limiter_lines();
        }
        let paths = self.anchors.iter().map(|anchor| anchor.path.as_str());
        let kept = keep::rules(engine, target, paths);
        for (path, rules) in kept {
            let place = if path.is_empty() {
                Some(&mut self.rules)
            } else {
                let known = self.anchors.iter_mut().find(|anchor| anchor.path == path);
                known.map(|anchor| &mut anchor.rules)
            };
            if let Some(place) = place {
                place.extend(rules);
                // Stable: rules of a kind stay in their order.
                place.sort_by_key(|rule| rule.kind);
            } else {
                self.add_rules(&path, rules)?;
            }
        }
        Ok(())
    }

    /// Replaces the settings.
    pub fn set_options(&mut self, options: Options) {
        self.options = options;
    }

    /// Adds tables to an anchor or, without a path, to the main ruleset; parts of the same name
    /// add up.
    pub fn add_tables(&mut self, anchor: &str, tables: Vec<TableDef>) {
        for table in tables {
            let name = (anchor.to_owned(), table.name.clone());
            if let Some(&at) = self.by_name.get(&name) {
                let known = &mut self.tables[at].1;
                known.weights.extend(table.weights);
                match (&mut known.entries, table.entries) {
                    (Some(have), Some(more)) => have.extend(more),
                    (none @ None, more) => *none = more,
                    (Some(_), None) => {}
                }
            } else {
                self.by_name.insert(name, self.tables.len());
                self.tables.push((anchor.to_owned(), table));
            }
        }
    }

    /// Adds queues behind those that are there.
    pub fn add_queues(&mut self, queues: Vec<QueueDef>, altq: Vec<Altq>) {
        self.queues.extend(queues);
        self.altq.extend(altq);
    }

    /// Adds limiters behind those that are there.
    ///
    /// # Errors
    /// When there are more than they have numbers for.
    pub fn add_limiters(
        &mut self,
        states: Vec<StateLimiter>,
        sources: Vec<SourceLimiter>,
    ) -> Result<(), LoadFailure> {
        self.state_limiters.extend(states);
        self.source_limiters.extend(sources);
        let most = usize::from(LIMITER_ID_MAX);
        if self.state_limiters.len().max(self.source_limiters.len()) > most {
            let message = format!("there are more than {most} limiters of a kind");
            return Err(LoadFailure::new(FailureKind::Limit, message));
        }
        Ok(())
    }

    /// Adds fingerprints behind those that are there.
    ///
    /// # Errors
    /// When there are too many.
    pub fn add_fingerprints(&mut self, more: Vec<Fingerprint>) -> Result<(), LoadFailure> {
        let all = self.fingerprints.get_or_insert_default();
        all.extend(more);
        if all.len() > FINGERPRINTS_MAX {
            let what = "entries";
            let mistake = check::Mistake::Fingerprints { what, max: FINGERPRINTS_MAX };
            return Err(LoadFailure::new(FailureKind::Limit, mistake.to_string()));
        }
        Ok(())
    }

    /// Adds rules behind those that are there, to an anchor or, without a path, to the main ones.
    ///
    /// # Errors
    /// When there are too many.
    pub fn add_rules(&mut self, anchor: &str, rules: Vec<Rule>) -> Result<(), LoadFailure> {
        let anchored: usize = self.anchors.iter().map(|anchor| anchor.rules.len()).sum();
        let count = self.rules.len() + anchored + rules.len();
        if count > RULES_MAX {
            let message = check::Mistake::TooManyRules { count }.to_string();
            return Err(LoadFailure::new(FailureKind::Limit, message));
        }
        if anchor.is_empty() {
            self.rules.extend(rules);
        } else if let Some(open) = self.anchors.last_mut().filter(|open| open.path == anchor) {
            open.rules.extend(rules);
        } else {
            let path = anchor.to_owned();
            self.anchors.push(AnchorRuleset { path, tables: Vec::new(), rules, ether: Vec::new() });
        }
        Ok(())
    }

    /// Checks the draft as a whole.
    ///
    /// # Errors
    /// The first mistakes, or what the engine cannot evaluate, in one message.
    pub fn check(self) -> Result<CheckedRuleset, LoadFailure> {
        let mut anchors = self.anchors;
        let mut tables = Vec::new();
        let mut inside: BTreeMap<String, Vec<TableDef>> = BTreeMap::new();
        for (path, table) in self.tables {
            if path.is_empty() {
                tables.push((table.name.clone(), table));
            } else {
                inside.entry(path).or_default().push(table);
            }
        }
        anchors.extend(inside.into_iter().map(|(path, tables)| AnchorRuleset {
            path,
            tables,
            ..AnchorRuleset::default()
        }));
        let draft = Draft {
            dialect: self.dialect,
            options: self.options,
            tables,
            rules: self.rules,
            anchors,
            fingerprints: self.fingerprints,
            queues: self.queues,
            altq: self.altq,
            state_limiters: self.state_limiters,
            source_limiters: self.source_limiters,
            ..Draft::default()
        };
        let checked = check::check(draft).map_err(|errors| {
            let mut lines: Vec<String> = errors
                .iter()
                .take(MISTAKES_SHOWN)
                .map(|error| match &error.at {
                    Some(Place::Rule(number)) => format!("rule {number}: {error}"),
                    Some(Place::Table(name)) => format!("table <{name}>: {error}"),
                    None => error.to_string(),
                })
                .collect();
            if let Some(more) = errors.len().checked_sub(MISTAKES_SHOWN).filter(|&more| more > 0) {
                lines.push(format!("and {more} more"));
            }
            LoadFailure::new(FailureKind::Invalid, lines.join("; "))
        })?;
        let missing = check::unsupported(&checked);
        if missing.is_empty() {
            return Ok(checked);
        }
        let lines: Vec<String> =
            missing.iter().take(MISTAKES_SHOWN).map(ToString::to_string).collect();
        Err(LoadFailure::new(FailureKind::Invalid, lines.join("; ")))
    }
}

/// What a load replaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// Path of the anchor; empty for the main ruleset.
    pub anchor: String,
    /// Everything else stays.
    pub parts: Parts,
}

/// The load that is open, if any.
///
/// Invariant: at most one draft exists; its ticket is the last one given.
#[derive(Debug, Default)]
pub struct Loads {
    last_ticket: u32,
    open: Option<OpenLoad>,
}

#[derive(Debug)]
struct OpenLoad {
    /// Connection that began it; when it closes, the load is given up.
    connection: u64,
    target: Target,
    draft: DraftBuilder,
}

impl Loads {
    /// Begins a load and ends any other; gives the ticket.
    pub fn begin(&mut self, connection: u64, target: Target, dialect: Dialect) -> u32 {
        // Zero is the ticket of the compiler at start and never valid here.
        self.last_ticket = self.last_ticket.checked_add(1).unwrap_or(1);
        let draft = DraftBuilder { dialect, ..DraftBuilder::default() };
        self.open = Some(OpenLoad { connection, target, draft });
        self.last_ticket
    }

    /// The draft of this ticket.
    ///
    /// # Errors
    /// [`FailureKind::Busy`] when another load has overtaken it or it has ended.
    pub fn draft(&mut self, ticket: u32) -> Result<&mut DraftBuilder, LoadFailure> {
        self.current(ticket)?;
        self.open
            .as_mut()
            .map(|open| &mut open.draft)
            .ok_or_else(|| LoadFailure::new(FailureKind::Busy, "the load has ended"))
    }

    /// Takes the draft of this ticket out, with what it replaces; the load has ended.
    ///
    /// # Errors
    /// As [`Self::draft`].
    pub fn take(&mut self, ticket: u32) -> Result<(Target, DraftBuilder), LoadFailure> {
        self.draft(ticket)?;
        Ok(self.open.take().map(|open| (open.target, open.draft)).unwrap_or_default())
    }

    /// Gives the load of this ticket up; nothing happens when it is not open.
    pub fn rollback(&mut self, ticket: u32) {
        if ticket == self.last_ticket {
            self.open = None;
        }
    }

    /// Gives up what a connection left open.
    pub fn connection_closed(&mut self, connection: u64) {
        if self.open.as_ref().is_some_and(|open| open.connection == connection) {
            self.open = None;
        }
    }

    fn current(&self, ticket: u32) -> Result<(), LoadFailure> {
        if ticket == self.last_ticket && ticket != 0 {
            return Ok(());
        }
        let current = self.last_ticket;
        let message = format!("ticket {ticket} is stale, the ruleset is at {current}");
        Err(LoadFailure::new(FailureKind::Busy, message))
    }
}

#[cfg(test)]
mod tests {
    use pfapi::ruleset::{Action, TableEntry};

    use super::*;

    fn table(name: &str, entries: &[&str]) -> TableDef {
        TableDef {
            name: name.to_owned(),
            entries: Some(
                entries
                    .iter()
                    .map(|text| TableEntry { prefix: text.parse().unwrap(), negated: false })
                    .collect(),
            ),
            ..TableDef::default()
        }
    }

    #[test]
    fn parts_of_a_table_add_up() {
        let mut draft = DraftBuilder::default();
        draft.add_tables("", vec![table("a", &["10.0.0.1"]), table("b", &[])]);
        draft.add_tables("", vec![table("a", &["10.0.0.2"])]);
        let ruleset = draft.check().unwrap();
        let counts: Vec<_> =
            ruleset.tables().map(|table| table.entries.as_ref().unwrap().len()).collect();
        assert_eq!(counts, [2, 0]);
    }

    #[test]
    fn begin_overtakes() {
        let mut loads = Loads::default();
        let first = loads.begin(1, Target::default(), Dialect::default());
        loads.draft(first).unwrap().add_rules("", vec![Rule::new(Action::Pass)]).unwrap();
        let second = loads.begin(2, Target::default(), Dialect::default());
        assert_eq!(loads.take(first).unwrap_err().kind, FailureKind::Busy);
        assert_eq!(loads.take(second).unwrap().1.check().unwrap().rules().len(), 0);
        assert_eq!(loads.take(second).unwrap_err().message, "the load has ended");
    }

    #[test]
    fn closed_connection_gives_its_load_up() {
        let mut loads = Loads::default();
        let ticket = loads.begin(1, Target::default(), Dialect::default());
        loads.connection_closed(2);
        assert!(loads.draft(ticket).is_ok());
        loads.connection_closed(1);
        assert!(loads.draft(ticket).is_err());
        assert!(loads.draft(0).is_err());
    }

    #[test]
    fn drafts_are_bounded() {
        let mut draft = DraftBuilder::default();
        draft.grow(DRAFT_OCTETS_MAX).unwrap();
        assert_eq!(draft.grow(1).unwrap_err().kind, FailureKind::Limit);
    }

    #[test]
    fn mistakes_name_their_place() {
        let mut draft = DraftBuilder::default();
        let mut rule = Rule::new(Action::Pass);
        rule.label = Some("".into());
        draft.add_rules("", vec![Rule::new(Action::Pass), rule]).unwrap();
        draft.add_tables("", vec![table("", &[])]);
        let failure = draft.check().unwrap_err();
        assert_eq!(failure.kind, FailureKind::Invalid);
        assert!(failure.message.contains("rule 1: label \"\" must have"), "{failure:?}");
        assert!(failure.message.starts_with("table <>: "), "{failure:?}");
    }
}
