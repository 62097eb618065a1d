//! Reads the files of the grammar: the part of pest's language that they are written in.

use std::borrow::Cow;

/// Definitions that say what a word is made of. How words are told apart is not read from them, but
/// part of the program ([`super::symbols`]).
pub(super) const OCTETS: [&str; 6] =
    ["WHITESPACE", "word_char", "word", "number", "quoted", "table_number"];

/// What a rule's expression says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ast {
    /// `"text"`
    Literal(Cow<'static, str>),
    Name(&'static str),
    Seq(Vec<Ast>),
    Choice(Vec<Ast>),
    Opt(Box<Ast>),
    /// `*`; `e+` is read as `e ~ e*`, as pest does.
    Rep(Box<Ast>),
    /// `&`
    Ahead(Box<Ast>),
    /// `!`
    NotAhead(Box<Ast>),
    /// What is not of the part of pest's language that is read here.
    Other,
}

/// What stands in front of the brace of a definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Makes a node, has blanks between words.
    Normal,
    /// `_`: makes no node.
    Silent,
    /// `@`: no blanks between its parts, and no nodes below it.
    Atomic,
    /// `$`: no blanks between its parts.
    Compound,
}

#[derive(Debug)]
pub(super) struct Definition {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) body: Ast,
}

#[derive(Debug)]
pub(super) struct Definitions(pub(super) Vec<Definition>);

impl Definitions {
    pub(super) fn read(texts: &[&'static str]) -> Self {
        let mut found = Vec::new();
        for text in texts {
            let mut reader = Reader { rest: text };
            found.extend(std::iter::from_fn(|| reader.definition()));
        }
        Self(found)
    }

    /// The words and signs between quotation marks.
    pub(super) fn literals(&self) -> Vec<Cow<'static, str>> {
        let mut found = Vec::new();
        let about_words = self.0.iter().filter(|definition| !OCTETS.contains(&definition.name));
        about_words.for_each(|definition| definition.body.literals(&mut found));
        found
    }
}

impl Ast {
    fn literals(&self, found: &mut Vec<Cow<'static, str>>) {
        match self {
            Self::Literal(literal) if !found.contains(literal) => found.push(literal.clone()),
            Self::Seq(parts) | Self::Choice(parts) => {
                for part in parts {
                    part.literals(found);
                }
            }
            Self::Opt(part) | Self::Rep(part) | Self::Ahead(part) | Self::NotAhead(part) => {
                part.literals(found);
            }
            _ => {}
        }
    }
}

struct Reader {
    rest: &'static str,
}

impl Reader {
    /// `name = kind? { expression }`
    fn definition(&mut self) -> Option<Definition> {
        let name = self.name()?;
        self.sign('=');
        let kinds = [('_', Kind::Silent), ('@', Kind::Atomic), ('$', Kind::Compound)];
        let kind = kinds.into_iter().find(|&(sign, _)| self.sign(sign));
        self.sign('{').then_some(())?;
        let body = self.choice();
        self.sign('}').then_some(())?;
        Some(Definition { name, kind: kind.map_or(Kind::Normal, |(_, kind)| kind), body })
    }

    fn choice(&mut self) -> Ast {
        self.sign('|');
        self.several('|', Ast::Choice, Self::sequence)
    }

    fn sequence(&mut self) -> Ast {
        self.several('~', Ast::Seq, Self::term)
    }

    fn several(
        &mut self,
        between: char,
        all: fn(Vec<Ast>) -> Ast,
        one: fn(&mut Self) -> Ast,
    ) -> Ast {
        let first = one(self);
        if !self.sign(between) {
            return first;
        }
        let mut parts = vec![first, one(self)];
        while self.sign(between) {
            parts.push(one(self));
        }
        all(parts)
    }

    fn term(&mut self) -> Ast {
        if self.sign('!') {
            return Ast::NotAhead(self.term().into());
        }
        if self.sign('&') {
            return Ast::Ahead(self.term().into());
        }
        let mut term = self.atom();
        loop {
            term = if self.sign('?') {
                Ast::Opt(term.into())
            } else if self.sign('*') {
                Ast::Rep(term.into())
            } else if self.sign('+') {
                Ast::Seq(vec![term.clone(), Ast::Rep(term.into())])
            } else {
                return term;
            };
        }
    }

    fn atom(&mut self) -> Ast {
        if self.sign('(') {
            let inner = self.choice();
            return if self.sign(')') { inner } else { Ast::Other };
        }
        if let Some(literal) = self.literal() {
            return Ast::Literal(literal);
        }
        let Some(name) = self.name() else { return Ast::Other };
        // `PUSH("")` and `PEEK[1..]` are the mark of the dialect.
        let arguments = [('(', ')'), ('[', ']')];
        match arguments.into_iter().find(|&(open, _)| self.rest.starts_with(open)) {
            Some((_, close)) => {
                let end = self.rest.find(close).map_or(self.rest.len(), |end| end + 1);
                self.rest = &self.rest[end..];
                Ast::Other
            }
            None => Ast::Name(name),
        }
    }

    fn literal(&mut self) -> Option<Cow<'static, str>> {
        self.blanks();
        let inner = self.rest.strip_prefix('"')?;
        let mut escaped = false;
        let end = inner.find(|sign| {
            let ends = sign == '"' && !escaped;
            escaped = sign == '\\' && !escaped;
            ends
        })?;
        self.rest = &inner[end + 1..];
        let text = &inner[..end];
        if !text.contains('\\') {
            return Some(text.into());
        }
        let plain = [("\\n", "\n"), ("\\t", "\t"), ("\\r", "\r"), ("\\\"", "\""), ("\\\\", "\\")];
        let replaced =
            plain.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to));
        Some(replaced.into())
    }

    fn name(&mut self) -> Option<&'static str> {
        self.blanks();
        let end = self.rest.find(|sign: char| !sign.is_ascii_alphanumeric() && sign != '_');
        let (name, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        (!name.is_empty()).then_some(name)
    }

    fn sign(&mut self, sign: char) -> bool {
        self.blanks();
        let rest = self.rest.strip_prefix(sign);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    /// Skips blanks and comments.
    fn blanks(&mut self) {
        loop {
            self.rest = self.rest.trim_ascii_start();
            if !self.rest.starts_with("//") {
                return;
            }
            self.rest = self.rest.find('\n').map_or("", |end| &self.rest[end..]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_are_read() {
        let text = "// a comment\nab = _{ \"x\\\"\" ~ (c | !d ~ e?)* } // \"z\"\nf = @{ | g+ }";
        let Definitions(found) = Definitions::read(&[text]);
        let (literal, name) = (|text: &'static str| Ast::Literal(text.into()), Ast::Name);
        let inner = Ast::Choice(vec![
            name("c"),
            Ast::Seq(vec![Ast::NotAhead(name("d").into()), Ast::Opt(name("e").into())]),
        ]);
        assert_eq!(found[0].name, "ab");
        assert_eq!(found[0].kind, Kind::Silent);
        assert_eq!(found[0].body, Ast::Seq(vec![literal("x\""), Ast::Rep(inner.into())]));
        assert_eq!(found[1].kind, Kind::Atomic);
        assert_eq!(found[1].body, Ast::Seq(vec![name("g"), Ast::Rep(name("g").into())]));
        assert_eq!(found.len(), 2);
    }
}
