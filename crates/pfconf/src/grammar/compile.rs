//! Expressions over words, made of the definitions of the grammar for one dialect.

use std::collections::HashMap;

use super::symbols::{END, NEGATIVE, NUMBER, QUOTED, SYMBOLS, Set, Symbol, Symbols};
use super::text::{Ast, Definition, Definitions, Kind, OCTETS};
use crate::parser::Rule;

/// Number of an expression.
pub(super) type Id = usize;

/// An expression, and what it can start with.
#[derive(Debug)]
pub(super) struct Expr {
    pub(super) what: What,
    /// It may fit no words at all.
    pub(super) is_nullable: bool,
    /// Words that it can start with, if it has any.
    pub(super) first: Set,
    /// Words that can come second, if it starts with exactly one word and goes on.
    pub(super) second: Option<Set>,
}

impl Expr {
    const fn new(what: What, first: Set) -> Self {
        Self { what, is_nullable: false, first, second: None }
    }
}

#[derive(Debug)]
pub(super) enum What {
    /// Fits nothing.
    Never,
    /// Always fits, without a word.
    Nothing,
    /// One word of `first`.
    Word,
    /// A node that is one word of `first`.
    Leaf(Rule),
    /// Digits with the sign of a table's end right behind them.
    TableNumber(Rule),
    /// The end of the statement.
    End,
    Node(Rule, Id),
    /// What another expression says.
    Same(Id),
    Seq(Vec<Id>, Blanks),
    Choice(Choice),
    Opt(Id),
    Rep(Id, Blanks),
    Ahead(Id),
    NotAhead(Id),
}

impl What {
    /// Gives the expressions that this one is made of.
    fn each(&mut self, mut found: impl FnMut(&mut Id)) {
        match self {
            Self::Never
            | Self::Nothing
            | Self::Word
            | Self::Leaf(_)
            | Self::TableNumber(_)
            | Self::End => {}
            Self::Node(_, part)
            | Self::Same(part)
            | Self::Opt(part)
            | Self::Rep(part, _)
            | Self::Ahead(part)
            | Self::NotAhead(part) => found(part),
            Self::Seq(parts, _) | Self::Choice(Choice { alternatives: parts, .. }) => {
                parts.iter_mut().for_each(found);
            }
        }
    }
}

/// Whether blanks may stand between the parts.
pub(super) type Blanks = bool;

/// Alternatives in their order.
#[derive(Debug)]
pub(super) struct Choice {
    pub(super) alternatives: Vec<Id>,
    /// For each symbol the first alternative that can start with it.
    pub(super) from: Vec<u8>,
}

/// The grammar of a dialect.
#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) exprs: Vec<Expr>,
    entries: Vec<Option<Id>>,
}

impl Compiled {
    pub(super) fn new(definitions: &Definitions, symbols: &Symbols, is_freebsd: bool) -> Self {
        let mut compiler = Compiler::new(definitions, symbols, is_freebsd);
        for definition in &definitions.0 {
            compiler.define(definition);
        }
        compiler.starts();
        compiler.words(symbols);
        compiler.starts();
        compiler.shorten();
        compiler.seconds();
        compiler.choices();
        let mut entries = vec![None; Rule::all_rules().len() + 1];
        for rule in Rule::all_rules() {
            if let Some(entry) = entries.get_mut(*rule as usize) {
                *entry = compiler.ids.get(format!("{rule:?}").as_str()).copied();
            }
        }
        Self { exprs: compiler.exprs, entries }
    }

    /// The expression of an entry.
    pub(super) fn entry(&self, rule: Rule) -> Option<Id> {
        *self.entries.get(rule as usize)?
    }
}

/// The place of an alternative; behind the 255th none is skipped.
fn small(at: usize) -> u8 {
    u8::try_from(at).unwrap_or_default()
}

struct Compiler<'a> {
    symbols: &'a Symbols,
    is_freebsd: bool,
    exprs: Vec<Expr>,
    /// Where each rule is; its expression is filled in when its definition is met.
    ids: HashMap<&'static str, Id>,
    rules: HashMap<String, Rule>,
    /// Whether the definition at hand has blanks between its parts.
    blanks: Blanks,
}

impl<'a> Compiler<'a> {
    fn new(definitions: &Definitions, symbols: &'a Symbols, is_freebsd: bool) -> Self {
        let names = definitions.0.iter().map(|definition| definition.name);
        let ids: HashMap<&str, Id> = names.zip(0..).collect();
        let never = || Expr::new(What::Never, Set::default());
        Self {
            symbols,
            is_freebsd,
            exprs: std::iter::repeat_with(never).take(ids.len()).collect(),
            ids,
            rules: Rule::all_rules().iter().map(|rule| (format!("{rule:?}"), *rule)).collect(),
            blanks: true,
        }
    }

    fn push(&mut self, what: What, first: Set) -> Id {
        self.exprs.push(Expr::new(what, first));
        self.exprs.len() - 1
    }

    /// One of some words.
    fn word(&mut self, symbols: impl IntoIterator<Item = Symbol>) -> Id {
        let mut first = Set::default();
        symbols.into_iter().for_each(|symbol| first.add(symbol));
        self.push(What::Word, first)
    }

    const fn constant(fits: bool) -> What {
        if fits { What::Nothing } else { What::Never }
    }

    fn define(&mut self, definition: &Definition) {
        let Definition { name, kind, ref body } = *definition;
        let (Some(&id), Some(&rule)) = (self.ids.get(name), self.rules.get(name)) else { return };
        self.blanks = matches!(kind, Kind::Normal | Kind::Silent);
        // What is about octets, and not about words.
        let (what, first) = match name {
            "number" => (What::Leaf(rule), self.word([NUMBER, NEGATIVE])),
            "quoted" => (What::Leaf(rule), self.word([QUOTED])),
            // Which ones is known when all keywords are.
            "word" => (What::Leaf(rule), self.word([])),
            "table_number" => (What::TableNumber(rule), self.word([NUMBER])),
            "freebsd" => (What::Nothing, id),
            "is_freebsd" => (Self::constant(self.is_freebsd), id),
            name if OCTETS.contains(&name) => return,
            _ => {
                let body = self.expr(body);
                let is_word = matches!(self.exprs[body].what, What::Word);
                let what = match kind {
                    Kind::Silent => What::Same(body),
                    _ if is_word => What::Leaf(rule),
                    _ => What::Node(rule, body),
                };
                (what, body)
            }
        };
        let first = self.exprs[first].first;
        self.exprs[id] = Expr::new(what, first);
    }

    fn expr(&mut self, ast: &Ast) -> Id {
        match ast {
            Ast::Literal(literal) => match self.symbols.of(literal) {
                Some(symbol) => self.word([symbol]),
                None => self.push(What::Never, Set::default()),
            },
            Ast::Name("SOI") => self.push(What::Nothing, Set::default()),
            Ast::Name("EOI") => {
                let end = self.word([END]);
                self.exprs[end].what = What::End;
                end
            }
            Ast::Name(name) => match self.ids.get(name) {
                Some(&id) => id,
                None => self.push(What::Never, Set::default()),
            },
            Ast::Seq(parts) => self.sequence(parts),
            Ast::Choice(parts) => {
                let alternatives: Vec<Id> = parts.iter().map(|part| self.expr(part)).collect();
                let from = Vec::new();
                self.push(What::Choice(Choice { alternatives, from }), Set::default())
            }
            Ast::Opt(part) => {
                let part = self.expr(part);
                self.push(What::Opt(part), Set::default())
            }
            Ast::Rep(part) => {
                let part = self.expr(part);
                self.push(What::Rep(part, self.blanks), Set::default())
            }
            Ast::Ahead(part) => {
                let part = self.expr(part);
                self.push(What::Ahead(part), Set::default())
            }
            // The dialect is known: what the other has is nothing that a statement can start with.
            Ast::NotAhead(part) if **part == Ast::Name("is_freebsd") => {
                let what = Self::constant(!self.is_freebsd);
                self.push(what, Set::default())
            }
            Ast::NotAhead(part) => {
                let part = self.expr(part);
                self.push(What::NotAhead(part), Set::default())
            }
            Ast::Other => self.push(What::Never, Set::default()),
        }
    }

    fn sequence(&mut self, parts: &[Ast]) -> Id {
        // Words are whole here: none goes on behind its end.
        let ends_word = Ast::NotAhead(Ast::Name("word_char").into());
        let kept: Vec<&Ast> = parts.iter().filter(|part| **part != ends_word).collect();
        if let [one] = *kept.as_slice() {
            return self.expr(one);
        }
        let parts = kept.into_iter().map(|part| self.expr(part)).collect();
        self.push(What::Seq(parts, self.blanks), Set::default())
    }

    /// Names are all words but the keywords of the dialect.
    fn words(&mut self, symbols: &Symbols) {
        let reserved = self.ids.get("reserved").map(|&id| self.exprs[id].first);
        let names = symbols.names().without(&reserved.unwrap_or_default());
        if let Some(&id) = self.ids.get("word") {
            self.exprs[id].first = names;
        }
    }

    /// Finds what each expression can start with.
    fn starts(&mut self) {
        let mut is_done = false;
        while !is_done {
            is_done = true;
            for id in 0..self.exprs.len() {
                let (is_nullable, first) = self.start(id);
                let expr = &mut self.exprs[id];
                if (expr.is_nullable, expr.first) != (is_nullable, first) {
                    (expr.is_nullable, expr.first) = (is_nullable, first);
                    is_done = false;
                }
            }
        }
    }

    fn start(&self, id: Id) -> (bool, Set) {
        let Expr { ref what, is_nullable, first, .. } = self.exprs[id];
        let of = |id: Id| (self.exprs[id].is_nullable, self.exprs[id].first);
        match what {
            What::Never | What::Word | What::Leaf(_) | What::TableNumber(_) | What::End => {
                (is_nullable, first)
            }
            What::Nothing | What::Ahead(_) | What::NotAhead(_) => (true, Set::default()),
            What::Node(_, body) | What::Same(body) => of(*body),
            What::Opt(body) | What::Rep(body, _) => (true, of(*body).1),
            What::Seq(parts, _) => {
                let mut first = Set::default();
                for &part in parts {
                    let (is_nullable, more) = of(part);
                    first.join(&more);
                    if !is_nullable {
                        return (false, first);
                    }
                }
                (true, first)
            }
            What::Choice(Choice { alternatives, .. }) => {
                let mut first = Set::default();
                for &id in alternatives {
                    first.join(&of(id).1);
                }
                (alternatives.iter().any(|&id| of(id).0), first)
            }
        }
    }

    /// Takes out what decides nothing: names for other expressions, and looks ahead for what the
    /// next word of the sequence cannot be.
    fn shorten(&mut self) {
        for id in 0..self.exprs.len() {
            if let What::Seq(parts, false) = &self.exprs[id].what {
                let decides = |at: usize, part: Id| match self.exprs[part].what {
                    What::NotAhead(body) if !self.exprs[body].is_nullable => {
                        let next = parts.get(at + 1).map(|&next| &self.exprs[next]);
                        let may_be = |next: &Expr| next.first.meets(&self.exprs[body].first);
                        next.is_none_or(|next| next.is_nullable || may_be(next))
                    }
                    _ => true,
                };
                let kept = parts.iter().enumerate().filter(|&(at, &part)| decides(at, part));
                let kept: Vec<Id> = kept.map(|(_, &part)| part).collect();
                self.exprs[id].what = match *kept.as_slice() {
                    [one] => What::Same(one),
                    _ => What::Seq(kept, false),
                };
            }
        }
        for id in 0..self.exprs.len() {
            let mut what = std::mem::replace(&mut self.exprs[id].what, What::Never);
            what.each(|part| *part = self.named(*part));
            self.exprs[id].what = what;
        }
    }

    /// The expression that a name stands for in the end.
    fn named(&self, mut id: Id) -> Id {
        while let What::Same(other) = self.exprs[id].what {
            id = other;
        }
        id
    }

    /// Finds what can come second. A word that must come then saves a try.
    fn seconds(&mut self) {
        for id in 0..self.exprs.len() {
            self.exprs[id].second = self.second(id);
        }
    }

    fn second(&self, id: Id) -> Option<Set> {
        match &self.exprs[id].what {
            What::Node(_, body) => self.second(*body),
            What::Seq(parts, _) => {
                let (&[first, second], ..) = parts.split_first_chunk()?;
                let second = &self.exprs[second];
                (self.is_one_word(first) && !second.is_nullable).then_some(second.first)
            }
            _ => None,
        }
    }

    /// Whether the expression is never more nor less than one word.
    fn is_one_word(&self, id: Id) -> bool {
        match &self.exprs[id].what {
            What::Word | What::Leaf(_) => true,
            What::Node(_, body) => self.is_one_word(*body),
            What::Choice(Choice { alternatives, .. }) => {
                alternatives.iter().all(|&id| self.is_one_word(id))
            }
            _ => false,
        }
    }

    /// Notes for each choice where each word leads to.
    fn choices(&mut self) {
        for id in 0..self.exprs.len() {
            let What::Choice(Choice { alternatives, .. }) = &self.exprs[id].what else { continue };
            let mut found = vec![small(alternatives.len()); SYMBOLS];
            for (at, &alternative) in alternatives.iter().enumerate().rev() {
                let Expr { is_nullable, first, .. } = &self.exprs[alternative];
                if *is_nullable {
                    found.fill(small(at));
                }
                first.symbols().for_each(|symbol| found[usize::from(symbol)] = small(at));
            }
            if let What::Choice(Choice { from, .. }) = &mut self.exprs[id].what {
                *from = found;
            }
        }
    }
}
