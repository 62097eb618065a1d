//! Fragments: kept until their datagram is whole, and cut again on the way out.
//!
//! Three parts: [`queue`] holds the fragments of one datagram and knows the overlap rules,
//! [`cache`] holds all queues and knows limits and time, [`cut`] makes fragments of an IPv6
//! datagram that was put together here. Source: OpenBSD sys/net/pf_norm.c.

pub mod arriving;
pub mod cache;
pub mod cut;
pub mod queue;
pub mod shared;
