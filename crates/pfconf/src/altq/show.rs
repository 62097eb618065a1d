//! Lines of `altq` and `queue` as pfctl prints them: each ends in a blank.
//!
//! Shares are printed as they were given, all other bandwidths in bits per second. Source: FreeBSD
//! sbin/pfctl/pfctl_altq.c `print_altq`, `print_queue`, `print_*_opts`.

use std::borrow::Cow;

use pfapi::ruleset::{
    ALTQ_PRIORITY_DEFAULT, ALTQ_QLIMIT_DEFAULT, Altq, AltqCurve, AltqQueue, QueueFlag, Scheduler,
    SchedulerOptions,
};

use super::bandwidth::{Bandwidth, rate};
use super::given::{Curve, Given};
use crate::dialect::Dialect;
use crate::print::{put, word};

/// A name as the listing has it.
pub(crate) fn name(name: &str) -> Cow<'_, str> {
    word(name, Dialect::FreeBsd)
}

/// A line of an interface or of a queue, worked out.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) interface: String,
    /// `None` for an `altq` line.
    pub(crate) queue: Option<String>,
    pub(crate) scheduler: Scheduler,
    /// Of the interface, or of the queue.
    pub(crate) bandwidth: u64,
    pub(crate) priority: u8,
    pub(crate) qlimit: u16,
    pub(crate) bucket: u32,
    pub(crate) options: SchedulerOptions,
}

/// The line of an entry, without the queues below it. `with_interface` is about queues.
pub(crate) fn line(entry: &Entry, given: &Given, with_interface: bool) -> String {
    let Some(queue) = &entry.queue else { return altq_line(entry, given) };
    let mut line = format!("queue {} ", name(queue));
    if with_interface {
        put(&mut line, format_args!("on {} ", name(&entry.interface)));
    }
    if entry.scheduler.shares_bandwidth() {
        bandwidth(&mut line, entry, given);
    }
    if entry.priority != ALTQ_PRIORITY_DEFAULT {
        put(&mut line, format_args!("priority {} ", entry.priority));
    }
    if entry.qlimit != ALTQ_QLIMIT_DEFAULT {
        put(&mut line, format_args!("qlimit {} ", entry.qlimit));
    }
    if entry.scheduler != Scheduler::Codel {
        line.push_str(&options(entry, given));
    }
    line
}

/// The line of an interface in force: all shares are bandwidths by now.
#[must_use]
pub fn altq(altq: &Altq) -> String {
    let entry = Entry {
        interface: altq.interface.clone(),
        queue: None,
        scheduler: altq.scheduler,
        bandwidth: altq.bandwidth,
        priority: ALTQ_PRIORITY_DEFAULT,
        qlimit: altq.qlimit,
        bucket: altq.bucket,
        options: altq.options.clone(),
    };
    line(&entry, &absolute(altq.bandwidth), true)
}

/// The line of a queue in force.
#[must_use]
pub fn altq_queue(interface: &str, scheduler: Scheduler, queue: &AltqQueue) -> String {
    let entry = Entry {
        interface: interface.to_owned(),
        queue: Some(queue.name.clone()),
        scheduler,
        bandwidth: queue.bandwidth,
        priority: queue.priority,
        qlimit: queue.qlimit,
        bucket: 0,
        options: queue.options.clone(),
    };
    line(&entry, &absolute(queue.bandwidth), true)
}

fn absolute(bandwidth: u64) -> Given {
    Given { bandwidth: Bandwidth::Absolute(bandwidth), ..Given::default() }
}

fn altq_line(entry: &Entry, given: &Given) -> String {
    let mut line = format!("altq on {} ", name(&entry.interface));
    match options(entry, given) {
        text if text.is_empty() => put(&mut line, format_args!("{} ", entry.scheduler.word())),
        text => line.push_str(&text),
    }
    bandwidth(&mut line, entry, given);
    if entry.qlimit != ALTQ_QLIMIT_DEFAULT {
        put(&mut line, format_args!("qlimit {} ", entry.qlimit));
    }
    put(&mut line, format_args!("tbrsize {} ", entry.bucket));
    line
}

/// All of the parent is not said.
fn bandwidth(line: &mut String, entry: &Entry, given: &Given) {
    match given.bandwidth {
        Bandwidth::Percent(100) => {}
        Bandwidth::Percent(percent) if percent > 0 => {
            put(line, format_args!("bandwidth {percent}% "));
        }
        _ => put(line, format_args!("bandwidth {} ", rate(entry.bandwidth))),
    }
}

/// The scheduler with its options, and nothing where there are none.
fn options(entry: &Entry, given: &Given) -> String {
    let options = &entry.options;
    let mut text = String::new();
    if entry.scheduler == Scheduler::Codel {
        for (word, value) in [("target", options.target), ("interval", options.interval)] {
            if value > 0 {
                put(&mut text, format_args!(" {word} {value}"));
            }
        }
        // pfctl forgets the blank, and cannot read that again.
        if options.flags.contains(&QueueFlag::Ecn) {
            text.push_str(" ecn");
        }
    } else {
        for flag in &options.flags {
            put(&mut text, format_args!(" {}", flag.word()));
        }
        let plain = |curve: &AltqCurve| curve.rate == entry.bandwidth && curve.duration == 0;
        let linkshare = options.linkshare.filter(|curve| !plain(curve));
        let of = &given.options;
        curve(&mut text, "realtime", options.realtime, of.realtime);
        curve(&mut text, "linkshare", linkshare, of.linkshare);
        curve(&mut text, "upperlimit", options.upperlimit, of.upperlimit);
    }
    if text.is_empty() { text } else { format!("{}({text} ) ", entry.scheduler.word()) }
}

fn curve(text: &mut String, name: &str, curve: Option<AltqCurve>, given: Option<Curve>) {
    let Some(curve) = curve.filter(|curve| curve.rate > 0) else { return };
    let shown = |value: u64, given: Option<Bandwidth>| match given {
        Some(Bandwidth::Percent(percent)) if percent > 0 => format!("{percent}%"),
        _ => rate(value),
    };
    let last = shown(curve.rate, given.map(|given| given.rate));
    if curve.duration > 0 {
        let first = shown(curve.first, given.map(|given| given.first));
        put(text, format_args!(" {name}({first} {} {last})", curve.duration));
    } else {
        put(text, format_args!(" {name} {last}"));
    }
}
