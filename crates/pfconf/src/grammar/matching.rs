//! Holds the words of a statement against the grammar.

use super::compile::{Choice, Compiled, Expr, Id, What};
use super::symbols::{Set, Token};
use crate::parser::Rule;
use crate::tree::Node;

/// The nodes of a statement; `None` if it does not fit.
pub(super) fn nodes(grammar: &Compiled, entry: Rule, tokens: &[Token]) -> Option<Vec<Node>> {
    let mut matching = Matching {
        grammar,
        tokens,
        here: Here { token: 0, offset: 0 },
        nodes: Vec::with_capacity(tokens.len() * 4),
    };
    let entry = grammar.entry(entry)?;
    matching.fits(entry).then_some(matching.nodes)
}

/// How far the words are read.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Here {
    /// The next word.
    token: usize,
    /// Octets: the end of the last word, or the start of the next if blanks were skipped.
    offset: u32,
}

struct Matching<'a> {
    grammar: &'a Compiled,
    tokens: &'a [Token],
    here: Here,
    nodes: Vec<Node>,
}

impl<'a> Matching<'a> {
    /// The next word; the last stays the end.
    fn next(&self) -> Token {
        self.tokens[self.here.token]
    }

    /// Whether the next words leave a chance.
    fn may_fit(&self, expr: &Expr) -> bool {
        let symbol = |at: usize| self.tokens.get(at).map(|token| token.symbol);
        let at = self.here.token;
        let starts = |set: &Set, at: usize| symbol(at).is_some_and(|symbol| set.has(symbol));
        (expr.is_nullable || starts(&expr.first, at))
            && expr.second.as_ref().is_none_or(|second| starts(second, at + 1))
    }

    /// Reads what an expression stands for. What does not fit leaves no trace.
    fn fits(&mut self, id: Id) -> bool {
        let grammar: &'a Compiled = self.grammar;
        let expr = &grammar.exprs[id];
        if !self.may_fit(expr) {
            return false;
        }
        let first = &expr.first;
        match &expr.what {
            What::Never => false,
            What::Nothing => true,
            What::Word => self.word(first),
            What::Leaf(rule) => self.leaf(*rule, first),
            What::TableNumber(rule) => self.table_number(*rule, first),
            What::End => self.end(),
            What::Node(rule, body) => self.node(*rule, *body),
            What::Same(body) => self.fits(*body),
            What::Seq(parts, blanks) => self.sequence(parts, *blanks),
            What::Choice(choice) => self.choice(choice),
            What::Opt(body) => {
                self.fits(*body);
                true
            }
            What::Rep(body, blanks) => self.repetition(*body, *blanks),
            What::Ahead(body) => self.is_ahead(*body),
            What::NotAhead(body) => !self.is_ahead(*body),
        }
    }

    fn word(&mut self, set: &Set) -> bool {
        let Token { start, end, symbol } = self.next();
        let fits = start == self.here.offset && set.has(symbol);
        if fits {
            self.here = Here { token: self.here.token + 1, offset: end };
        }
        fits
    }

    fn leaf(&mut self, rule: Rule, set: &Set) -> bool {
        let Token { start, end, .. } = self.next();
        let fits = self.word(set);
        if fits {
            self.push(rule, start, end);
        }
        fits
    }

    fn table_number(&mut self, rule: Rule, set: &Set) -> bool {
        let behind = self.tokens.get(self.here.token + 1);
        let is_closed = behind.is_some_and(|behind| behind.start == self.next().end);
        is_closed && self.leaf(rule, set)
    }

    fn end(&mut self) -> bool {
        let end = self.next().start;
        let fits = end == self.here.offset;
        if fits {
            self.push(Rule::EOI, end, end);
        }
        fits
    }

    /// Appends a node without children.
    fn push(&mut self, rule: Rule, start: u32, end: u32) {
        let mut node = Node::new(rule, start);
        node.close(end, self.nodes.len() + 1);
        self.nodes.push(node);
    }

    fn node(&mut self, rule: Rule, body: Id) -> bool {
        let at = self.nodes.len();
        self.nodes.push(Node::new(rule, self.here.offset));
        let fits = self.fits(body);
        if fits {
            let next = self.nodes.len();
            self.nodes[at].close(self.here.offset, next);
        } else {
            self.nodes.truncate(at);
        }
        fits
    }

    fn sequence(&mut self, parts: &[Id], blanks: bool) -> bool {
        let (here, nodes) = (self.here, self.nodes.len());
        for (at, &part) in parts.iter().enumerate() {
            if blanks && at > 0 {
                self.skip_blanks();
            }
            if !self.fits(part) {
                self.here = here;
                self.nodes.truncate(nodes);
                return false;
            }
        }
        true
    }

    fn choice(&mut self, choice: &Choice) -> bool {
        let symbol = self.next().symbol;
        let first = usize::from(choice.from[usize::from(symbol)]);
        let rest = choice.alternatives.get(first..).unwrap_or_default();
        rest.iter().any(|&id| self.fits(id))
    }

    fn repetition(&mut self, body: Id, blanks: bool) -> bool {
        let mut here = self.here;
        while self.fits(body) && self.here != here {
            here = self.here;
            if blanks {
                self.skip_blanks();
            }
        }
        // Blanks in front of what is not repeated belong to what comes next.
        self.here = here;
        true
    }

    fn is_ahead(&mut self, body: Id) -> bool {
        let (here, nodes) = (self.here, self.nodes.len());
        let fits = self.fits(body);
        self.here = here;
        self.nodes.truncate(nodes);
        fits
    }

    fn skip_blanks(&mut self) {
        self.here.offset = self.next().start;
    }
}
