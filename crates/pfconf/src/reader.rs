//! Reads one ruleset statement by statement, and goes on after mistakes as pfctl does.
//!
//! After a mistake the rest of the line is skipped, and a word that does not fit is reported only
//! when three words or newlines before it were understood. A mistake between the braces of an
//! anchor leaves all open anchors. Source: OpenBSD sbin/pfctl/parse.y; yacc(1).

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use pfapi::load::Part;
use pfapi::ruleset::{AnchorRuleset, EtherRule, QueueDef, Rule as Finished, TableDef};

use crate::address::World;
use crate::altq;
use crate::anchors::{self, Frame};
use crate::antispoof::antispoof;
use crate::diag::{Code, Diagnostic, Severity, SourceText};
use crate::dialect::Dialect;
use crate::ether::{self, EtherFrame};
use crate::expand::{Target, expand};
use crate::explain::unknown_statement;
use crate::fingerprint::Fingerprints;
use crate::finish::{StateDefaults, complete};
use crate::freebsd::{self, Order, Section};
use crate::front;
use crate::limiters::Limiters;
use crate::lines::Lines;
use crate::optimize::Level;
use crate::options::Settings;
use crate::parser::{
    Fallible, Kind, Misfit, Pair, Rule, kind, number_value, parse, parse_front, place, string,
};
use crate::plain_list::{HostList, plain_hosts, plain_list};
use crate::queues;
use crate::recovery::Recovery;
use crate::redirect::AutoTables;
use crate::rules::{Context, RuleSpec, rule};
use crate::scan::{Macro, Macros, Scanner, Statement, VALUE_MAX, tokens};
use crate::span::{LineIndex, Span};
use crate::state::StateItem;
use crate::statement::overlong_number;
use crate::tables::{self, table};

/// Words and newlines that must be understood before the next message about a word.
const QUIET: usize = 3;
/// Remarks that are worth telling.
const REMARKS_MAX: usize = 20;
/// Most words that are taken away to find the part of a statement that makes sense.
const FRONTS_MAX: usize = 6;
/// Most `include` lines that are followed, in all files together.
const INCLUDED_MAX: usize = 1_000;
/// Most addresses in the tables of all files, counted where they are defined.
const ENTRIES_MAX: usize = 10_000_000;
/// Deepest nesting of included files.
const INCLUDES_MAX: usize = 16;

/// What lives on from the main file to the files of its anchors.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// `set state-defaults`
    pub(crate) state_items: Option<Vec<StateItem>>,
    /// `set state-policy if-bound`
    pub(crate) if_bound: bool,
    /// The command line's optimization, else that of the first `set ruleset-optimization`.
    pub(crate) optimize: Option<Level>,
    pub(crate) automatic: AutoTables,
    pub(crate) queues: Vec<QueueDef>,
    pub(crate) altq: altq::Plan,
    pub(crate) limiters: Limiters,
    /// Combinations of lists so far.
    pub(crate) combinations: usize,
    /// Addresses in tables so far.
    pub(crate) entries: usize,
    /// Files that were included.
    pub(crate) included: usize,
    /// What means less here than where the file comes from.
    pub(crate) remarks: Vec<Diagnostic>,
    /// Database of `set fingerprints`.
    pub(crate) fingerprints: Option<Fingerprints>,
    /// Lines of that database that were left out.
    pub(crate) fingerprint_mistakes: Vec<String>,
}

/// A `load anchor` line.
#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) anchor: String,
    pub(crate) file: String,
}

/// What was read.
pub(crate) struct Found {
    pub(crate) settings: Settings,
    pub(crate) tables: Vec<(Span, TableDef)>,
    /// Tables between the braces of anchors, under the paths of these.
    pub(crate) inline: Vec<AnchorRuleset>,
    pub(crate) rules: Vec<Finished>,
    pub(crate) ether: Vec<EtherRule>,
    pub(crate) loads: Vec<Load>,
    pub(crate) listing: Lines,
    pub(crate) diagnostics: Vec<Diagnostic>,
    pub(crate) extensions: Vec<Diagnostic>,
    pub(crate) unused: Vec<String>,
}

/// Everything that has been read so far.
pub(crate) struct Reader<'a> {
    pub(crate) world: World<'a>,
    pub(crate) shared: &'a mut Shared,
    /// The file belongs to an anchor.
    pub(crate) in_anchor: bool,
    name: String,
    lines: LineIndex,
    source: Option<Rc<SourceText>>,
    depth: usize,
    /// Names given on the command line; the file cannot change them.
    fixed: BTreeSet<String>,
    macros: Macros,
    /// Names of macros in the order of their last definitions, for who asks which was not used.
    defined: BTreeMap<usize, String>,
    places: BTreeMap<String, usize>,
    pub(crate) settings: Settings,
    tables: Vec<(Span, TableDef)>,
    /// Tables between the braces of anchors that have been closed.
    pub(crate) anchor_tables: Vec<AnchorRuleset>,
    pub(crate) rules: Vec<Finished>,
    /// Open inline anchors, the innermost last.
    pub(crate) frames: Vec<Frame>,
    /// Inline anchors so far; those without a name are called by it.
    pub(crate) anchors: usize,
    /// Names of inline anchors of the main ruleset.
    pub(crate) inline: BTreeSet<String>,
    /// Rules for Ethernet frames.
    ether: Vec<EtherRule>,
    /// Open inline anchors for frames; while there are some, there are no others.
    pub(crate) ether_frames: Vec<EtherFrame>,
    /// Names of inline anchors for frames of the main ruleset.
    pub(crate) ether_inline: BTreeSet<String>,
    loads: Vec<Load>,
    listing: Lines,
    diagnostics: Vec<Diagnostic>,
    extensions: Vec<Diagnostic>,
    /// What is left of [`QUIET`].
    quiet: usize,
    pub(crate) recovery: Recovery,
    stopped: bool,
    /// A word or newline has been read.
    begun: bool,
    /// How far the file has come in FreeBSD's order.
    order: Order,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(
        world: World<'a>,
        shared: &'a mut Shared,
        defines: &[(String, String)],
    ) -> Self {
        let macros = defines.iter().map(|(name, value)| {
            let value = value.replace(['\n', '\r'], " ");
            (name.clone(), Macro { value, definition: None, used: false })
        });
        Self {
            world,
            shared,
            in_anchor: false,
            name: String::new(),
            lines: LineIndex::new(""),
            source: None,
            depth: 0,
            fixed: defines.iter().map(|(name, _)| name.clone()).collect(),
            macros: macros.collect(),
            defined: BTreeMap::new(),
            places: BTreeMap::new(),
            settings: Settings::default(),
            tables: Vec::new(),
            anchor_tables: Vec::new(),
            rules: Vec::new(),
            frames: Vec::new(),
            anchors: 0,
            inline: BTreeSet::new(),
            ether: Vec::new(),
            ether_frames: Vec::new(),
            ether_inline: BTreeSet::new(),
            loads: Vec::new(),
            listing: Lines::default(),
            diagnostics: Vec::new(),
            extensions: Vec::new(),
            quiet: 0,
            recovery: Recovery::default(),
            stopped: false,
            begun: false,
            order: Order::default(),
        }
    }

    /// Macros that no other line uses: those of the command line first, then those of the file.
    fn unused(&self) -> Vec<String> {
        let is_unused = |name: &&String| self.macros.get(*name).is_some_and(|found| !found.used);
        self.fixed.iter().chain(self.defined.values()).filter(is_unused).cloned().collect()
    }

    pub(crate) fn finish(self) -> Found {
        Found {
            unused: self.unused(),
            settings: self.settings,
            tables: self.tables,
            inline: self.anchor_tables,
            rules: self.rules,
            ether: self.ether,
            loads: self.loads,
            listing: self.listing,
            diagnostics: self.diagnostics,
            extensions: self.extensions,
        }
    }

    /// Reads a file; `source` for one that is not the compiled input itself.
    pub(crate) fn file(&mut self, name: &str, text: &str, source: Option<&Rc<SourceText>>) {
        let before = (
            std::mem::replace(&mut self.name, name.to_owned()),
            std::mem::replace(&mut self.lines, LineIndex::new(text)),
            std::mem::replace(&mut self.source, source.cloned()),
        );
        let recovery = self.recovery.enter();
        let mut scanner = Scanner::new(text);
        while !self.stopped {
            let mut reported = Vec::new();
            let mut next = scanner.next(&mut self.macros, &mut |found| reported.push(found));
            if let Some(statement) = &mut next {
                find_overlong(text, statement, &mut reported);
            }
            let early = match &next {
                Some(statement) if statement.undefined => self.early(statement),
                _ => None,
            };
            if early.is_some() {
                // It is told when the rest of the line is skipped.
                reported.clear();
            }
            let before = next
                .as_ref()
                .filter(|statement| statement.undefined)
                .map(|statement| tokens(&statement.text[..statement.failed_at]).count());
            for diagnostic in reported {
                // Soon after a mistake the unknown macro is told, and nothing of its place.
                let quiet = before.is_some_and(|words| words < self.quiet);
                self.report(if quiet { diagnostic.alone() } else { diagnostic });
            }
            let Some(statement) = next else { break };
            let resume = if let Some(resume) = early {
                Some(resume)
            } else if statement.failed {
                self.stopped |= !self.begun
                    && statement.undefined
                    && statement.text[..statement.failed_at].trim().is_empty();
                self.mistake(&statement);
                // With an unknown macro pfctl loses the newline, and with it the next line.
                statement.undefined.then_some(statement.end + 1)
            } else {
                self.statement(&statement)
            };
            self.begun = true;
            if let Some(offset) = resume.filter(|_| !self.stopped) {
                let mut reported = Vec::new();
                scanner.skip_line(offset, &mut self.macros, &mut |found| reported.push(found));
                for diagnostic in reported {
                    self.report(diagnostic);
                }
                if statement.undefined && early.is_none() {
                    self.recovery.skipped(text.get(offset..scanner.position()).unwrap_or_default());
                }
            }
        }
        self.recovery.leave(recovery);
        let open = !self.frames.is_empty() || !self.ether_frames.is_empty();
        if self.depth == 0 && open && !self.stopped {
            self.unclosed(text);
        }
        (self.name, self.lines, self.source) = before;
    }

    /// A mistake in front of the macro, or number, that ends a statement too early: from where the
    /// rest of the line is to be skipped. What pfctl carries out there is carried out.
    fn early(&mut self, statement: &Statement) -> Option<usize> {
        let at = statement.failed_at;
        let front = statement.front(at, "");
        let entry = match self.entry(&front) {
            Ok(entry) => entry?,
            Err(misfit) => return Some(self.misfit(statement, misfit)),
        };
        let dialect = self.world.dialect;
        let misfit = parse(&front, entry, dialect).err();
        let misfit = misfit.filter(|misfit| !front::word_at(&front, misfit.at).is_empty());
        let found = self.front(statement, entry, misfit.as_ref().map_or(at, |misfit| misfit.at));
        match (found, misfit) {
            (Some(diagnostic), _) => Some(self.failed(statement, diagnostic)),
            (None, Some(misfit)) => Some(self.misfit(statement, misfit)),
            (None, None) => None,
        }
    }

    /// The file ends between the braces of an anchor.
    fn unclosed(&mut self, text: &str) {
        let ether = self.ether_frames.last().map(|frame| frame.span);
        let span = self.frames.last().map(|frame| frame.span).or(ether);
        self.frames.clear();
        self.ether_frames.clear();
        if self.quiet > 0 {
            return;
        }
        let line = text.bytes().filter(|&byte| byte == b'\n').count() + 2;
        let mut diagnostic = Diagnostic::error(Code::MissingBrace, "syntax error")
            .title("an anchor is not closed")
            .help("put `}` behind the last rule of the anchor");
        if let Some(span) = span {
            diagnostic = diagnostic.at_span(span, "this anchor has no closing brace");
        }
        self.diagnostics.push(diagnostic.place(&self.name, line).within(self.source.as_ref()));
    }

    /// Notes that a line means less here than on the system that it was written for. pfctl says
    /// nothing of that kind, so these messages are kept apart.
    fn remark(&mut self, statement: &Statement, text: &str, help: Option<&str>) {
        if self.shared.remarks.len() >= REMARKS_MAX {
            return;
        }
        let whole = statement.locate(0, statement.text.trim_end().len());
        let line = self.lines.line(whole.span.start);
        let remark = Diagnostic::new(Severity::Warning, Code::Queue, text);
        let mut remark = remark.at(&whole, "this line");
        if let Some(help) = help {
            remark = remark.help(help);
        }
        self.shared.remarks.push(remark.place(&self.name, line).within(self.source.as_ref()));
    }

    /// Remarks on a rule.
    fn remark_on_rule(&mut self, statement: &Statement, spec: &RuleSpec) {
        if let Some(dummynet) = spec.rule.freebsd.dummynet {
            let text = format!("{dummynet} is not used: the packets pass without its limit");
            let help = "this router has no dummynet; give the packets a `queue` with `bandwidth`";
            self.remark(statement, &text, Some(help));
        }
    }

    /// Notes a message; its line is that of the place where pfctl was.
    pub(crate) fn report(&mut self, diagnostic: Diagnostic) {
        let line = diagnostic.seen_at().map_or(0, |offset| self.lines.line(offset));
        let follows = self.recovery.explains(&diagnostic);
        let diagnostic = diagnostic.follows_if(follows);
        self.stopped |= diagnostic.is_fatal();
        self.diagnostics.push(diagnostic.place(&self.name, line).within(self.source.as_ref()));
    }

    /// After a mistake: quiet for a while, and out of all anchors. The newline counts already.
    fn mistake(&mut self, statement: &Statement) {
        self.quiet = QUIET - 1;
        self.recovery.lost(statement, self.frames.len() + self.ether_frames.len());
        self.frames.clear();
        self.ether_frames.clear();
    }

    /// What kind of statement it is; `None` for an empty one.
    ///
    /// # Errors
    /// The message about a statement that has no place here.
    fn entry(&self, statement: &Statement) -> Result<Option<Rule>, Misfit> {
        let dialect = self.world.dialect;
        let start = statement.text.len() - statement.text.trim_start().len();
        let misfit =
            |diagnostic: Diagnostic| Misfit { diagnostic: Box::new(diagnostic), at: start };
        let entry = match kind(statement, dialect) {
            Kind::Empty => return Ok(None),
            Kind::Entry(entry) => entry,
            Kind::Unknown => return Err(misfit(unknown_statement(statement, dialect))),
        };
        let in_ether = !self.ether_frames.is_empty();
        let fits_here = match entry {
            Rule::filter | Rule::anchor | Rule::include => !in_ether,
            Rule::ether_rule | Rule::ether_anchor => self.frames.is_empty(),
            Rule::closing => in_ether || !self.frames.is_empty(),
            // Old releases of FreeBSD have no tables there.
            Rule::table if dialect != Dialect::MacOs => !in_ether,
            _ => !in_ether && self.frames.is_empty(),
        };
        if fits_here {
            return Ok(Some(entry));
        }
        Err(misfit(if entry == Rule::closing {
            unknown_statement(statement, dialect)
        } else {
            anchors::misplaced(statement, start)
        }))
    }

    /// Reads a statement. After a mistake, where in the file the rest of the line is to be
    /// skipped from.
    fn statement(&mut self, statement: &Statement) -> Option<usize> {
        let dialect = self.world.dialect;
        let entry = match self.entry(statement) {
            Ok(Some(entry)) => entry,
            Ok(None) => {
                self.quiet = self.quiet.saturating_sub(1);
                return None;
            }
            Err(misfit) => return Some(self.misfit(statement, misfit)),
        };
        if entry == Rule::table && self.long_table(statement) {
            self.understood(statement);
            return None;
        }
        if entry == Rule::filter && self.long_rule(statement) {
            self.understood(statement);
            return None;
        }
        let tree = match parse(statement, entry, dialect) {
            Ok(tree) => tree,
            Err(misfit) => {
                let found = self.front(statement, entry, misfit.at);
                return Some(match found {
                    Some(diagnostic) => self.failed(statement, diagnostic),
                    None => self.misfit(statement, misfit),
                });
            }
        };
        let carried_out = self
            .enter(statement, entry, &tree.parts())
            .and_then(|()| self.carry_out(statement, entry, &tree.parts()));
        match carried_out {
            Ok(()) => {
                self.understood(statement);
                None
            }
            Err(diagnostic) => Some(self.failed(statement, *diagnostic)),
        }
    }

    /// A statement without a mistake.
    fn understood(&mut self, statement: &Statement) {
        self.recovery.understood();
        if self.quiet > 0 {
            let words = tokens(&statement.text).count();
            self.quiet = self.quiet.saturating_sub(words + 1);
        }
    }

    /// Reads a table with a long list of plain addresses; `false`, and nothing done, for others.
    fn long_table(&mut self, statement: &Statement) -> bool {
        let Some((rest, entries)) = plain_list(self.world.facts, statement) else { return false };
        let dialect = self.world.dialect;
        let Ok(tree) = parse(&rest, Rule::table, dialect) else { return false };
        let Ok((found, line)) = table(self.world, &rest, &tree.parts(), Some(entries)) else {
            return false;
        };
        debug_assert!(
            parse(statement, Rule::table, dialect).is_ok_and(|tree| {
                let slow = table(self.world, statement, &tree.parts(), None);
                slow.is_ok_and(|slow| slow == (found.clone(), line.clone()))
            }),
            "a long list means something else than its words"
        );
        self.add_table(statement, found, &line);
        true
    }

    /// Reads a rule with long lists of plain addresses; `false`, and nothing done, for others.
    fn long_rule(&mut self, statement: &Statement) -> bool {
        let Some((rest, lists)) = plain_hosts(self.world.facts, statement) else { return false };
        let dialect = self.world.dialect;
        let Ok(tree) = parse(&rest, Rule::filter, dialect) else { return false };
        let Ok(mut spec) = rule(self.context(), &rest, &tree.parts()) else { return false };
        for HostList { is_target, hosts } in lists {
            let side = if is_target { &mut spec.to } else { &mut spec.from };
            if side.hosts.as_slice() != hosts.get(..1).unwrap_or_default() {
                return false;
            }
            side.hosts = hosts;
        }
        if complete(&mut spec, self.state_defaults(), dialect).is_err() {
            return false;
        }
        drop(tree);
        debug_assert!(
            parse(statement, Rule::filter, dialect).is_ok_and(|tree| {
                let mut slow = rule(self.context(), statement, &tree.parts());
                slow.as_mut().is_ok_and(|slow| {
                    complete(slow, self.state_defaults(), dialect).is_ok()
                        && format!("{slow:?}") == format!("{spec:?}")
                })
            }),
            "a rule with a long list means something else than its words"
        );
        self.remark_on_rule(statement, &spec);
        self.expand(&spec);
        true
    }

    fn state_defaults(&self) -> StateDefaults<'_> {
        StateDefaults {
            items: self.shared.state_items.as_deref().unwrap_or_default(),
            if_bound: self.shared.if_bound,
        }
    }

    fn add_table(&mut self, statement: &Statement, found: TableDef, line: &str) {
        if !self.world.parts.has(Part::Tables) {
            return;
        }
        self.listing.push(line);
        let start = statement.locate(0, 0).span.start;
        let span = Span::new(start.min(statement.end), statement.end);
        self.shared.entries += found.entries.as_ref().map_or(0, Vec::len);
        let tables = match self.frames.last_mut() {
            Some(frame) => &mut frame.tables,
            None => &mut self.tables,
        };
        tables.push((span, found));
        if self.shared.entries > ENTRIES_MAX {
            let text = format!("tables are defined with more than {ENTRIES_MAX} addresses");
            let diagnostic = Diagnostic::fatal(Code::TooMany, text);
            self.report(diagnostic.at_span(span, "too many with this one").line_at(statement.end));
        }
    }

    /// A mistake that is no matter of grammar.
    fn failed(&mut self, statement: &Statement, diagnostic: Diagnostic) -> usize {
        let resume = diagnostic
            .seen_at()
            .max(diagnostic.primary_span().map(|span| span.end))
            .unwrap_or(statement.end);
        self.report(diagnostic);
        self.mistake(statement);
        resume.min(statement.end)
    }

    /// A word that does not fit the grammar.
    fn misfit(&mut self, statement: &Statement, misfit: Misfit) -> usize {
        let Misfit { diagnostic, at } = misfit;
        let before = tokens(&statement.text).take_while(|token| token.start < at).count();
        // Where nothing has been read yet, yacc has no state to go back to.
        self.stopped |= !self.begun && before == 0;
        let resume = statement.next_token(at);
        let follows = self.recovery.is_rest(statement, statement.next_token(0));
        if before >= self.quiet {
            let diagnostic = diagnostic.line_at(resume).follows_if(follows);
            let unclosed =
                statement.open_brace.is_some() && front::word_at(statement, at).is_empty();
            if unclosed && statement.last && self.world.dialect == Dialect::OpenBsd {
                // pfctl counts the end of the file as a newline of its own.
                let line = self.lines.line(resume) + 1;
                let diagnostic = diagnostic.place(&self.name, line);
                self.diagnostics.push(diagnostic.within(self.source.as_ref()));
            } else {
                self.report(diagnostic);
            }
        }
        self.mistake(statement);
        let len = tokens(&statement.text).find(|token| token.start >= at).map(|token| token.len());
        let newline = statement.text[at.min(statement.text.len())..].starts_with('\n');
        match len {
            Some(_) if newline => resume,
            Some(len) => statement.locate(at, at + len).span.end,
            None => resume,
        }
    }

    /// What is carried out, or wrong, in front of the word at `at`, which does not fit.
    fn front(&mut self, statement: &Statement, entry: Rule, at: usize) -> Option<Diagnostic> {
        let dialect = self.world.dialect;
        if entry == Rule::setting {
            let tree = parse_front(statement, Rule::setting_prefix, dialect, at)?;
            let parts = tree.parts();
            // Without a list pfctl waits for the end of the line.
            let bare = |part: &Pair| {
                part.as_rule() == Rule::set_skip
                    && !part.clone().into_inner().any(|part| part.as_rule() == Rule::on)
            };
            if parts.iter().any(bare) {
                return None;
            }
            let done = self.set(statement, &parts);
            return done.err().map(|diagnostic| *diagnostic);
        }
        // The longest front that can be completed to a statement; few words back are enough.
        let fronts = front::fronts(statement, at, FRONTS_MAX);
        fronts
            .into_iter()
            .find_map(|front| {
                let whole = front.statement.text.len();
                let tree = parse_front(&front.statement, entry, dialect, whole)?;
                if front::waits(dialect, &tree, &front, statement) {
                    return None;
                }
                let parts = tree.parts();
                Some(match entry {
                    Rule::filter | Rule::anchor => {
                        rule(self.context(), &front.statement, &parts).err()
                    }
                    Rule::table => tables::words(self.world, &front.statement, &parts, false).err(),
                    Rule::nat_rule | Rule::binat_rule | Rule::translation_anchor => {
                        let found = match entry {
                            Rule::nat_rule => {
                                freebsd::translation(self.context(), &front.statement, &parts)
                            }
                            Rule::binat_rule => {
                                freebsd::binat(self.context(), &front.statement, &parts)
                            }
                            _ => freebsd::anchor(self.context(), &front.statement, &parts),
                        };
                        // What is wrong with the rule as a whole is told at its end.
                        found.err().filter(|found| {
                            matches!(found.kind(), Code::Protocol | Code::Port | Code::Address)
                        })
                    }
                    Rule::queue => queues::words(&front.statement, &parts).err().filter(|found| {
                        found.text() != queues::SHARE
                            || !front::bandwidth_waits(&tree, &front, statement)
                    }),
                    _ => None,
                })
            })?
            .map(|diagnostic| *diagnostic)
    }

    /// Holds a statement against the order that FreeBSD wants.
    fn enter(&mut self, statement: &Statement, entry: Rule, parts: &[Pair]) -> Fallible<()> {
        if self.world.dialect == Dialect::OpenBsd {
            return Ok(());
        }
        let section = match entry {
            Rule::filter | Rule::anchor | Rule::antispoof => Section::Filtering,
            Rule::ether_rule | Rule::ether_anchor => Section::Ethernet,
            Rule::scrub_rule => Section::Normalization,
            // macOS takes anchors for dummynet anywhere: programs put them at the end of the file.
            Rule::macos_anchor if parts.iter().any(|p| p.as_rule() == Rule::kw_scrub_anchor) => {
                Section::Normalization
            }
            Rule::altq | Rule::altq_queue => Section::Queueing,
            Rule::nat_rule | Rule::binat_rule | Rule::translation_anchor => Section::Translation,
            Rule::setting => {
                for part in parts {
                    if part.as_rule() == Rule::set_require_order {
                        let no = part.clone().into_inner().any(|p| p.as_rule() == Rule::kw_no);
                        self.order.is_free = no;
                    }
                }
                if !parts.iter().any(|part| is_ordered(part.as_rule())) {
                    return Ok(());
                }
                Section::Options
            }
            _ => return Ok(()),
        };
        let entered = self.order.enter(section, statement);
        if entered.is_err() {
            // These are printed before pfctl looks at the order.
            let printed = parts.iter().filter(|part| {
                matches!(
                    part.as_rule(),
                    Rule::set_block_policy | Rule::set_fail_policy | Rule::set_fingerprints
                )
            });
            for part in printed {
                self.listing.push(crate::options::plain(part));
            }
        }
        entered
    }

    fn context(&self) -> Context<'_> {
        Context {
            world: self.world,
            block_returns: self.settings.block_returns,
            reassembles: self.settings.reassembles(),
            queues: &self.shared.queues,
            limiters: &self.shared.limiters,
        }
    }

    fn carry_out(&mut self, statement: &Statement, entry: Rule, parts: &[Pair]) -> Fallible<()> {
        match entry {
            Rule::definition => self.definition(statement, parts),
            Rule::setting => self.set(statement, parts),
            Rule::table => {
                let found = table(self.world, statement, parts, None);
                let (found, line) = found.map_err(|found| ahead(found, statement))?;
                self.add_table(statement, found, &line);
                Ok(())
            }
            Rule::anchor => anchors::anchor(self, statement, parts),
            Rule::closing if !self.ether_frames.is_empty() => ether::close(self, statement),
            Rule::closing => anchors::close(self, statement),
            Rule::ether_anchor => ether::anchor(self, statement, parts),
            Rule::ether_rule => self.ether_rule(statement, parts),
            Rule::altq | Rule::altq_queue => self.altq(statement, entry, parts),
            Rule::state_limiter | Rule::source_limiter => {
                let line = self.shared.limiters.add(statement, parts)?;
                self.listing.push(line);
                Ok(())
            }
            Rule::load => self.load(statement, parts),
            Rule::include => self.include(statement, parts),
            Rule::antispoof => {
                for spec in antispoof(self.world, statement, parts)? {
                    self.expand(&spec);
                }
                Ok(())
            }
            Rule::queue => {
                let queues = queues::queue(self.world, statement, parts)?;
                for queue in queues {
                    if let Some(line) = queues::occupied(&self.shared.queues, &queue) {
                        self.listing.push(line);
                        let start = statement.locate(0, 0).span.start;
                        self.report(
                            Diagnostic::error(Code::Queue, "cannot add queue")
                                .title("this interface has a root queue already")
                                .at_span(Span::new(start, statement.end), "a second root queue")
                                .line_at(statement.end),
                        );
                        break;
                    }
                    self.shared.queues.push(queue);
                }
                Ok(())
            }
            Rule::scrub_rule
            | Rule::nat_rule
            | Rule::binat_rule
            | Rule::translation_anchor
            | Rule::macos_anchor => {
                let context = self.context();
                let spec = match entry {
                    Rule::scrub_rule => freebsd::scrub(context, statement, parts),
                    Rule::nat_rule => freebsd::translation(context, statement, parts),
                    Rule::binat_rule => freebsd::binat(context, statement, parts),
                    _ => freebsd::anchor(context, statement, parts),
                }?;
                self.remark_on_rule(statement, &spec);
                self.expand(&spec);
                Ok(())
            }
            _ => {
                let mut spec = rule(self.context(), statement, parts)?;
                complete(&mut spec, self.state_defaults(), self.world.dialect)
                    .map_err(|found| ahead(found, statement))?;
                self.remark_on_rule(statement, &spec);
                self.expand(&spec);
                Ok(())
            }
        }
    }

    /// Rules for frames in the ruleset at hand.
    pub(crate) fn ether_rules(&mut self) -> &mut Vec<EtherRule> {
        match self.ether_frames.last_mut() {
            Some(frame) => &mut frame.rules,
            None => &mut self.ether,
        }
    }

    fn ether_rule(&mut self, statement: &Statement, parts: &[Pair]) -> Fallible<()> {
        let spec = ether::spec(self.world, statement, parts)?;
        let known = self.ether_rules().len();
        let rules = ether::expand(statement, &spec, known)?;
        if let Some(warning) = spec.warning {
            self.report(*warning);
        }
        self.ether_rules().extend(rules);
        Ok(())
    }

    fn altq(&mut self, statement: &Statement, entry: Rule, parts: &[Pair]) -> Fallible<()> {
        let mut lines = Vec::new();
        let (troubles, remarks) = if entry == Rule::altq {
            let spec = altq::read_altq(statement, parts)?;
            let remarks = altq::remark::of_interface(&spec);
            (self.shared.altq.altq(self.world.facts, &spec, &mut lines), remarks)
        } else {
            let spec = altq::read_queue(statement, parts)?;
            let scheduler = self.shared.altq.scheduler_of(&spec.name);
            let remarks = scheduler.map(|scheduler| altq::remark::of_queue(&spec, scheduler));
            (self.shared.altq.queue(&spec, &mut lines), remarks.unwrap_or_default())
        };
        for text in remarks {
            self.remark(statement, &text, None);
        }
        if self.world.parts.has(Part::Queues) {
            self.listing.extend(lines);
        }
        let whole = statement.locate(0, statement.text.trim_end().len());
        let mut troubles = troubles.into_iter().peekable();
        while let Some(trouble) = troubles.next() {
            let diagnostic = trouble.diagnostic().at(&whole, "this line").line_at(statement.end);
            // The last error is told by who skips the rest of the line.
            let more = troubles.peek().is_some_and(altq::Trouble::is_error);
            if diagnostic.severity() == Severity::Error && !more {
                return Err(Box::new(diagnostic));
            }
            self.report(diagnostic);
        }
        Ok(())
    }

    /// Appends the rules of `spec` to the ruleset at hand, and reports what is wrong with them.
    pub(crate) fn expand(&mut self, spec: &RuleSpec) {
        let made = self.shared.automatic.made.len();
        let rules = match self.frames.last_mut() {
            Some(frame) => &mut frame.rules,
            None => &mut self.rules,
        };
        // FreeBSD's pfctl has no fingerprints before it is told where they are.
        let usual = self.world.sources.fingerprints();
        let usual = usual.filter(|_| self.world.dialect == Dialect::OpenBsd);
        let fingerprints = self.shared.fingerprints.as_ref().or(usual);
        let target = Target {
            rules,
            tables: &mut self.shared.automatic,
            looked_at: &mut self.shared.combinations,
            fingerprints,
        };
        let faults = expand(self.world, spec, target);
        if self.world.parts.has(Part::of(spec.rule.kind)) {
            let tables = self.shared.automatic.made[made..].iter().map(crate::print::table);
            self.listing.extend(tables);
        }
        for diagnostic in faults.into_diagnostics(spec) {
            // Beyond the bound there is nothing to learn from what follows, which may be much.
            self.stopped |= diagnostic.code() == Code::TooMany.as_str();
            self.report(diagnostic);
        }
    }

    fn set(&mut self, statement: &Statement, parts: &[Pair]) -> Fallible<()> {
        let mut lines = Vec::new();
        let done = self.settings.set(
            self.world,
            statement,
            parts,
            self.shared,
            self.in_anchor,
            &mut lines,
        );
        self.listing.extend(lines);
        for found in std::mem::take(&mut self.settings.extensions) {
            let line = found.seen_at().map_or(0, |offset| self.lines.line(offset));
            self.extensions.push(found.place(&self.name, line).within(self.source.as_ref()));
        }
        done
    }

    fn load(&mut self, statement: &Statement, parts: &[Pair]) -> Fallible<()> {
        let mut name = None;
        let mut file = Vec::new();
        for part in parts {
            match part.as_rule() {
                Rule::anchor_name => name = Some(anchors::name(statement, part)?),
                Rule::string => file.push(string(part)),
                _ => {}
            }
        }
        let Some(anchor) = name else {
            let start = statement.locate(0, statement.text.trim_end().len());
            return Err(Box::new(
                Diagnostic::error(Code::Anchor, "anchor name is missing")
                    .at(&start, "into which anchor?")
                    .line_at(statement.end)
                    .help("write `load anchor name from \"file\"`"),
            ));
        };
        self.loads.push(Load { anchor, file: file.join(" ") });
        Ok(())
    }

    fn include(&mut self, statement: &Statement, parts: &[Pair]) -> Fallible<()> {
        let Some(word) = parts.iter().find(|part| part.as_rule() == Rule::string) else {
            return Ok(());
        };
        let path = string(word);
        let failed = |cause: &str| {
            Box::new(
                Diagnostic::error(Code::Include, format!("failed to include file {path}"))
                    .before(format!("pfctl: pushfile: {path}: {cause}"))
                    .title(format!("cannot include {path:?}: {cause}"))
                    .at(&place(statement, word), "this file"),
            )
        };
        self.shared.included += 1;
        if self.shared.included > INCLUDED_MAX {
            let text = format!("more than {INCLUDED_MAX} files are included");
            return Err(Box::new(
                Diagnostic::fatal(Code::Include, text)
                    .at(&place(statement, word), "this is one more"),
            ));
        }
        if self.depth >= INCLUDES_MAX {
            return Err(failed("Too many open files"));
        }
        let text = self.world.sources.read(&path).map_err(|e| failed(&crate::tables::cause(&e)))?;
        let source = Rc::new(SourceText { name: path.clone(), text });
        self.depth += 1;
        self.file(&path, &source.text, Some(&source));
        self.depth -= 1;
        Ok(())
    }

    fn definition(&mut self, statement: &Statement, parts: &[Pair]) -> Fallible<()> {
        let Some(name_pair) = parts.iter().find(|part| part.as_rule() == Rule::string) else {
            return Ok(());
        };
        let name = string(name_pair);
        let here = place(statement, name_pair);
        let values: Vec<String> =
            parts.iter().filter(|part| part.as_rule() == Rule::value).map(number_value).collect();
        let value = values.join(" ");
        // pfctl prints quotes in a value as they are, and cannot read that again.
        self.listing.push(format!("{name} = {}", crate::print::quoted(&value)));
        if name.chars().skip(1).any(char::is_whitespace) {
            return Err(Box::new(
                Diagnostic::error(Code::MacroName, "macro name cannot contain whitespace")
                    .at(&here, "this name")
                    .line_at(statement.end),
            ));
        }
        if value.len() > VALUE_MAX {
            let text = format!("value of macro '{name}' is longer than {VALUE_MAX} octets");
            return Err(Box::new(
                Diagnostic::error(Code::MacroTooLarge, text)
                    .at(&here, format!("{} octets", value.len()))
                    .help("put long lists of addresses into a table"),
            ));
        }
        if !self.fixed.contains(&name) {
            let whole = statement.locate(0, statement.text.trim_end().len()).span;
            let span = Span::new(here.span.start, whole.end.max(here.span.end));
            let next = self.defined.last_key_value().map_or(0, |(place, _)| place + 1);
            if let Some(before) = self.places.insert(name.clone(), next) {
                self.defined.remove(&before);
            }
            self.defined.insert(next, name.clone());
            self.macros.insert(name, Macro { value, definition: Some(span), used: false });
        }
        Ok(())
    }
}

/// Finds a number that pfctl cannot read. It loses the rest of the line with it, and the
/// newline.
fn find_overlong(text: &str, statement: &mut Statement, reported: &mut Vec<Diagnostic>) {
    let read = if statement.failed { statement.failed_at } else { statement.text.len() };
    let Some(found) = overlong_number(&statement.text[..read]) else { return };
    let place = statement.locate(found.start, found.end);
    let number = &statement.text[found.clone()];
    let wrong = if number.starts_with('-') { "too small" } else { "too large" };
    let diagnostic =
        Diagnostic::error(Code::Value, format!("\"{number}\" invalid number: {wrong}"))
            .at(&place, "this number")
            .line_at(place.span.start)
            .after("syntax error");
    let rest = text.get(place.span.end..).unwrap_or_default();
    statement.end = rest.find('\n').map_or(text.len(), |newline| place.span.end + newline);
    statement.failed = true;
    statement.undefined = true;
    statement.failed_at = found.start;
    reported.clear();
    reported.push(diagnostic);
}

/// Settings that must stand in front of all rules on FreeBSD.
const fn is_ordered(kind: Rule) -> bool {
    matches!(
        kind,
        Rule::set_optimization
            | Rule::set_timeout
            | Rule::set_limit
            | Rule::set_timeout_one
            | Rule::set_limit_one
            | Rule::set_loginterface
            | Rule::set_block_policy
            | Rule::set_fail_policy
            | Rule::set_fingerprints
            | Rule::set_debug
    )
}

/// pfctl looks at the statement as a whole when it has read its end.
pub(crate) fn ahead(diagnostic: Box<Diagnostic>, statement: &Statement) -> Box<Diagnostic> {
    if diagnostic.has_line() { diagnostic } else { Box::new(diagnostic.line_at(statement.end)) }
}
