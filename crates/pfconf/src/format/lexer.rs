//! Cuts the raw text into words, signs, comments and line ends.
//!
//! It goes along with [`crate::scan`], which loses what a formatter keeps: comments, continuations
//! and the names of macros. What the scanner alone knows comes in as an [`Outline`].

use crate::scan::{is_word_char, quoted_len};
use crate::statement::Use;
use crate::syntax::Outline;

/// A piece of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    /// As it is written; continuations within a word are taken out.
    pub(super) text: String,
    /// Its first octet.
    pub(super) at: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A word, with the macros in it.
    Word,
    /// A string with its quotes.
    Quoted,
    /// One or two characters.
    Sign,
    /// From `#` to the end of the line, and the lines that it continues in.
    Comment,
    /// What a macro's value makes a comment.
    Rest,
    /// A backslash and the end of the line.
    Continuation,
    /// The end of a line.
    Newline,
}

/// Signs of two characters.
pub(super) const PAIRS: [&str; 6] = ["!=", "<=", ">=", "<>", "><", "->"];

pub(super) struct Lexer<'a> {
    text: &'a str,
    outline: &'a Outline,
    at: usize,
    tokens: Vec<Token>,
}

impl<'a> Lexer<'a> {
    pub(super) const fn new(text: &'a str, outline: &'a Outline) -> Self {
        Self { text, outline, at: 0, tokens: Vec::new() }
    }

    pub(super) fn tokens(mut self) -> Vec<Token> {
        while let Some(character) = self.peek() {
            let at = self.at;
            match character {
                ' ' | '\t' | '\r' => self.at += 1,
                '\n' => {
                    self.at += 1;
                    self.push(Kind::Newline, String::new(), at);
                }
                '\\' if self.next_seen().is_none_or(|(seen, _)| seen != at) => {
                    self.at += 1;
                    if self.skip_newline() {
                        self.push(Kind::Continuation, String::new(), at);
                    }
                }
                '#' => self.comment(Kind::Comment),
                '"' | '\'' => {
                    let rest = &self.text[at..];
                    let len = quoted_len(rest, character).unwrap_or(rest.len());
                    self.at += len;
                    self.push(Kind::Quoted, rest[..len].to_owned(), at);
                }
                _ if is_word_char(character) => self.word(),
                _ => self.sign(character),
            }
        }
        self.tokens
    }

    fn push(&mut self, kind: Kind, text: String, at: usize) {
        self.tokens.push(Token { kind, text, at });
    }

    fn peek(&self) -> Option<char> {
        self.text.get(self.at..)?.chars().next()
    }

    /// Skips a newline that comes at once.
    fn skip_newline(&mut self) -> bool {
        let rest = &self.text[self.at..];
        let len = if rest.starts_with("\r\n") { 2 } else { usize::from(rest.starts_with('\n')) };
        self.at += len;
        len > 0
    }

    /// The next character that the scanner sees: backslashes and the newlines behind them are none,
    /// two backslashes are one.
    fn next_seen(&self) -> Option<(usize, char)> {
        let mut ahead = Self { tokens: Vec::new(), ..*self };
        while ahead.peek() == Some('\\') && !ahead.text[ahead.at..].starts_with("\\\\") {
            ahead.at += 1;
            ahead.skip_newline();
        }
        ahead.peek().map(|character| (ahead.at, character))
    }

    fn comment(&mut self, kind: Kind) {
        let start = self.at;
        while let Some(found) = self.text[self.at..].find(['\n', '\\']) {
            self.at += found;
            if self.text[self.at..].starts_with('\n') {
                break;
            }
            self.at += 1;
            if !self.skip_newline() && self.peek() == Some('\\') {
                self.at += 1;
            }
        }
        if self.text[self.at..].find('\n').is_none() {
            self.at = self.text.len();
        }
        let text = self.text[start..self.at].trim_start_matches([' ', '\t', '\r']);
        let trimmed = text.trim_end_matches([' ', '\t', '\r']);
        let mut text = trimmed.replace("\r\n", "\n");
        // A backslash at the end would take the next line into the comment.
        if trimmed.ends_with('\\') {
            text.push(' ');
        }
        if !text.is_empty() {
            self.push(kind, text, start);
        }
    }

    fn word(&mut self) {
        let start = self.at;
        let mut word = String::new();
        // Whether a quotation mark or `$` that comes next belongs to the word.
        let mut inside = false;
        while let Some((at, character)) = self.next_seen() {
            let ends = !is_word_char(character)
                || (!inside && !word.is_empty() && matches!(character, '"' | '\'' | '$'));
            if ends {
                break;
            }
            self.at = at + character.len_utf8();
            word.push(character);
            if character == '\\' {
                self.at += 1;
                word.push('\\');
            }
            inside = true;
            let used = self.outline.uses.get(&at);
            if let Some(used) = used {
                let rest = &self.text[self.at..];
                let name = rest
                    .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                    .unwrap_or(rest.len());
                word.push_str(&rest[..name]);
                self.at += name;
                inside = *used == Use::InWord;
                if *used == Use::Comment {
                    self.push(Kind::Word, word, start);
                    return self.comment(Kind::Rest);
                }
            }
        }
        if word == "-" && self.next_seen().is_some_and(|(_, next)| next == '>') {
            self.at = start;
            return self.sign('-');
        }
        self.push(Kind::Word, word, start);
    }

    fn sign(&mut self, first: char) {
        let start = self.at;
        self.at += first.len_utf8();
        let mut sign = String::from(first);
        if let Some((at, second)) = self.next_seen() {
            sign.push(second);
            if PAIRS.contains(&sign.as_str()) {
                self.at = at + second.len_utf8();
            } else {
                sign.pop();
            }
        }
        self.push(Kind::Sign, sign, start);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lex(text: &str) -> Vec<(Kind, String)> {
        let outline = Outline::default();
        let tokens = Lexer::new(text, &outline).tokens();
        tokens.into_iter().map(|token| (token.kind, token.text)).collect()
    }

    #[test]
    fn continuations_within_words_are_taken_out() {
        assert_eq!(
            lex("pa\\\nss !\\\n= \\\nx"),
            [
                (Kind::Word, "pass".to_owned()),
                (Kind::Sign, "!=".to_owned()),
                (Kind::Continuation, String::new()),
                (Kind::Word, "x".to_owned()),
            ]
        );
    }

    #[test]
    fn comments_keep_their_continuations_and_end_as_before() {
        assert_eq!(
            lex("# a\\\n b  \n"),
            [(Kind::Comment, "# a\\\n b".to_owned()), (Kind::Newline, String::new()),]
        );
        assert_eq!(lex("# a \\ \n")[0].1, "# a \\ ");
    }
}
