//! Which rules of a long ruleset may match a packet, without asking each of them.
//!
//! Aggregated bit vectors: for every field that rules name, the values are cut into parts in which
//! the same rules match (`axis`), and each part has the set of these rules as bits in rule order.
//! The rules that may match a packet are the intersection of one set per field (`index`), read
//! from the first rule on and only as far as the walk goes. A set is in two pieces: the rules that
//! take any value, shared by all parts, and the others, of which only words with a bit are kept;
//! one bit in a summary stands for 64 rules, so that most of the intersection is never computed.
//!
//! What comes out is a superset in rule order: the walk still asks each of these rules for all its
//! conditions. So sets may be coarser than the rules (to bound memory, and for tables, which change
//! while rules stay), and conditions whose answer depends on when they are asked need no place here.
//!
//! Source: Baboescu and Varghese, "Scalable Packet Classification" (SIGCOMM 2001).

mod axis;
mod index;
mod spans;

pub(super) use index::{Budget, Candidates, Place, RuleIndex};

#[cfg(test)]
mod tests;
