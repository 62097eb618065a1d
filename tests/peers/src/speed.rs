//! How fast connections begin, and how fast SYNs are answered.

use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use pf_load::client;
use pf_load::lab::CLIENT;
use serde::Serialize;

use crate::middle::{Middle, Plan};
use crate::place::{at, named};
use crate::requests::{Flood, Web};

/// What was measured with one thing in the middle.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Speed {
    /// In the middle.
    pub middle: Middle,
    /// Requests answered per second, 64 at a time, each with a connection of its own.
    pub connections_per_second: f64,
    /// Milliseconds from `connect` to the end of a reply of one segment, one at a time, median.
    pub first_reply_ms: f64,
    /// SYNs answered with a cookie per second of a flood that is as fast as one sender can.
    pub answers_per_second: f64,
    /// SYNs that this flood sent per second.
    pub flood_per_second: f64,
}

/// Measures for three times this long.
///
/// # Errors
///
/// When the middle cannot be made or requests fail.
pub fn measure(middle: Middle, time: Duration) -> Result<Speed, String> {
    let stand = Plan::new(middle).start()?;
    let _web = Web::start(100)?;
    let one = ask(1, time)?;
    let many = ask(64, time)?;
    let (mut answers_per_second, mut flood_per_second) = (0.0, 0.0);
    if middle.answers() {
        let flood = Flood::start(&stand, 0)?;
        // The first moments fill queues.
        thread::sleep(time / 4);
        let (start, before) = (Instant::now(), stand.cookies()?.0);
        thread::sleep(time);
        let answered = stand.cookies()?.0 - before;
        answers_per_second = answered as f64 / start.elapsed().as_secs_f64();
        flood_per_second = flood.rate();
    }
    Ok(Speed {
        middle,
        connections_per_second: many.ok as f64 / many.seconds,
        first_reply_ms: one.latency.per_mille(500) as f64 / 1000.0,
        answers_per_second,
        flood_per_second,
    })
}

fn ask(concurrent: usize, time: Duration) -> Result<client::Report, String> {
    let options = client::Options {
        server: ([10, 77, 3, 2], 80).into(),
        path: "/".to_owned(),
        sources: (0..32_u8).map(|step| [10, 77, 1, 130 + step].into()).collect(),
        concurrent,
        rate: None,
        timeout: Duration::from_secs(5),
        duration: time,
        count: None,
        interval: time,
    };
    let report = at(CLIENT, || {
        client::run(&options, &AtomicBool::new(false), |_| {}).map_err(named("client"))
    })?;
    if report.ok == 0 { Err("no request was answered".to_owned()) } else { Ok(report) }
}
