//! What a monitoring system reads: counters and gauges over HTTP.

mod server;
mod text;

pub use server::Metrics;
