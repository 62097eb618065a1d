//! Command line: definitions, parser and help texts.

pub mod classic;
pub mod defs;
pub mod help;
pub mod words;

#[cfg(test)]
mod manual;
