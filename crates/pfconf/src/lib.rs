//! Text of pf.conf into checked rulesets, and back.
//!
//! [`compile`] reads a file: the scanner cuts it into statements and expands macros, the grammar
//! (`pf.pest`) parses one statement at a time, lists are expanded to single rules, and
//! [`pfapi::check`] has the last word. Every mistake becomes a [`Diagnostic`] at its place; the
//! reader goes on with the next statement. [`print`] writes rules as pfctl does.
//!
//! The language of OpenBSD is read as a whole, with pfctl's own texts and line numbers. Whether the
//! engine can evaluate a ruleset is another question: see [`pfapi::check::unsupported`].
//! The crate knows no file system, resolver or engine: see [`Sources`].
#![forbid(unsafe_code)]

mod address;
mod altq;
mod anchors;
mod antispoof;
mod compile;
pub mod cookies;
mod criteria;
mod diag;
mod dialect;
mod digits;
pub mod env;
mod ether;
mod expand;
mod explain;
mod faults;
mod filter;
mod fingerprint;
mod finish;
pub mod format;
mod freebsd;
mod front;
mod grammar;
mod keywords;
mod label;
mod limiters;
mod lines;
mod lookup;
mod md5;
#[doc(hidden)]
pub mod measure;
pub mod names;
mod optimize;
mod options;
mod parser;
mod parts;
mod plain_list;
mod pool;
mod port_names;
pub mod print;
mod print_freebsd;
mod print_parts;
mod queues;
mod reader;
mod recovery;
mod redirect;
mod rules;
mod scan;
mod server;
mod settle;
mod source;
mod span;
mod state;
mod statement;
mod suggest;
pub mod syntax;
mod tables;
mod translate;
mod tree;
mod wordset;

pub use compile::{CompileOptions, Compiled, Listing, compile};
pub use diag::{Code, Diagnostic, Edit, Fix, Severity, UnknownCode};
pub use dialect::{Dialect, detect};
pub use fingerprint::{FingerprintMistake, Fingerprints, OsMatch};
pub use lines::Lines;
pub use optimize::{Counted, Level, Optimization};
pub use pfapi::load::{Given, Part, Parts};
pub use port_names::name_ports;
pub use source::{BuiltinSources, NoSources, Sources};
pub use span::Span;

/// A text and its name.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// As shown in messages, such as `stdin`.
    pub name: &'a str,
    /// The whole text.
    pub text: &'a str,
}
