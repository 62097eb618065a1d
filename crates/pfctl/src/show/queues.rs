//! `-s queue`.
//!
//! Source: OpenBSD sbin/pfctl/pfctl_queue.c; FreeBSD sbin/pfctl/pfctl_qstats.c.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use pfapi::control::{QueueDefinition, QueueReport};
use pfconf::print;

/// Time between two looks of `-vv`. Source: `STAT_INTERVAL`.
pub const PERIOD: Duration = Duration::from_secs(5);
/// Looks over which rates are averaged. Source: `AVGN_MAX`.
const LOOKS_MAX: u32 = 8;

/// What earlier looks have found.
#[derive(Debug, Default)]
pub struct History {
    load: u64,
    queues: BTreeMap<(String, String), Past>,
}

#[derive(Debug, Default)]
struct Past {
    looks: u32,
    packets: u64,
    bytes: u64,
    /// In one period.
    average: Rate,
}

/// Packets and octets per period.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rate {
    packets: f64,
    bytes: f64,
}

/// How much of a queue is shown.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Detail {
    /// Its definition.
    Definition,
    /// With `-v` its counters too, and the rate when that is known.
    Counters(Option<Rate>),
}

impl History {
    /// A look at the queues of a load; those of another are forgotten.
    pub fn begin(&mut self, load: u64) {
        if self.load != load {
            self.load = load;
            self.queues.clear();
        }
    }

    /// Adds what a queue has counted; the rate is known from the second look on.
    pub fn measure(&mut self, report: &QueueReport) -> Option<Rate> {
        let key = (report.interface.clone(), name(&report.definition).to_owned());
        let past = self.queues.entry(key).or_default();
        if past.looks > 0 {
            let looks = f64::from(past.looks);
            let mean = |before: f64, now: u64| (before * (looks - 1.0) + float(now)) / looks;
            let since = |now: u64, before: u64| now.checked_sub(before);
            if let Some(bytes) = since(report.bytes, past.bytes) {
                past.average.bytes = mean(past.average.bytes, bytes);
            }
            if let Some(packets) = since(report.packets, past.packets) {
                past.average.packets = mean(past.average.packets, packets);
            }
        }
        (past.packets, past.bytes) = (report.packets, report.bytes);
        past.looks = (past.looks + 1).min(LOOKS_MAX);
        (past.looks > 1).then_some(past.average)
    }
}

/// Name of a queue; that of the interface has none.
fn name(definition: &QueueDefinition) -> &str {
    match definition {
        QueueDefinition::Queue(queue) => &queue.name,
        QueueDefinition::Altq(_) => "",
        QueueDefinition::AltqQueue { queue, .. } => &queue.name,
    }
}

/// Prints a queue. `all` are the queues that it stands among.
pub fn print(
    out: &mut dyn Write,
    report: &QueueReport,
    all: &[QueueReport],
    detail: Detail,
) -> io::Result<()> {
    match &report.definition {
        QueueDefinition::Queue(queue) => writeln!(out, "{}", print::queue(queue))?,
        QueueDefinition::Altq(altq) => {
            writeln!(out, "{}{}", print::altq(altq), below(None, report, all))?;
        }
        QueueDefinition::AltqQueue { interface, scheduler, queue } => {
            let line = print::altq_queue(interface, *scheduler, queue);
            writeln!(out, "{line}{}", below(Some(&queue.name), report, all))?;
        }
    }
    let Detail::Counters(rate) = detail else { return Ok(()) };
    writeln!(
        out,
        "  [ pkts: {:>10}  bytes: {:>10}  dropped pkts: {:>6} bytes: {:>6} ]",
        report.packets, report.bytes, report.dropped_packets, report.dropped_bytes
    )?;
    writeln!(out, "  [ qlength: {:>3}/{:>3} ]", report.qlength, report.qlimit)?;
    let Some(Rate { packets, bytes }) = rate else { return Ok(()) };
    let seconds = PERIOD.as_secs_f64();
    let bits = rate_text(8.0 * bytes / seconds);
    writeln!(out, "  [ measured: {:>7.1} packets/s, {bits}/s ]", packets / seconds)
}

/// The queues right below one of FreeBSD, in braces.
fn below(parent: Option<&str>, report: &QueueReport, all: &[QueueReport]) -> String {
    let children: Vec<&str> = all
        .iter()
        .filter_map(|other| match &other.definition {
            QueueDefinition::AltqQueue { interface, queue, .. }
                if *interface == report.interface && queue.parent.as_deref() == parent =>
            {
                Some(queue.name.as_str())
            }
            _ => None,
        })
        .collect();
    if children.is_empty() { String::new() } else { format!("{{{}}}", children.join(", ")) }
}

/// Bits per second with a unit. Source: OpenBSD sbin/pfctl/pfctl_queue.c `rate2str`.
fn rate_text(mut rate: f64) -> String {
    let mut unit = ' ';
    for next in ['K', 'M', 'G'] {
        if rate < 1000.0 {
            break;
        }
        rate /= 1000.0;
        unit = next;
    }
    let hundredths = (rate * 100.0).trunc();
    if hundredths % 100.0 == 0.0 {
        format!("{:.0}{unit}b", rate.trunc())
    } else {
        format!("{rate:.2}{unit}b")
    }
}

#[expect(clippy::cast_precision_loss, reason = "rates have few digits")]
const fn float(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use pfapi::ruleset::QueueDef;

    use super::*;

    fn report(packets: u64) -> QueueReport {
        let queue = QueueDef { name: "q".to_owned(), qlimit: 30, ..QueueDef::default() };
        QueueReport {
            interface: "tun0".to_owned(),
            definition: QueueDefinition::Queue(queue),
            packets,
            bytes: packets * 1_000,
            dropped_packets: 3,
            dropped_bytes: 99,
            qlength: 7,
            qlimit: 30,
        }
    }

    fn shown(report: &QueueReport, detail: Detail) -> String {
        let mut out = Vec::new();
        print(&mut out, report, &[], detail).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn counters_come_with_v_and_rates_with_the_second_look() {
        let mut history = History::default();
        history.begin(1);
        assert_eq!(shown(&report(10), Detail::Definition), "queue q qlimit 30\n");
        let first = history.measure(&report(10));
        assert_eq!(
            shown(&report(10), Detail::Counters(first)),
            "queue q qlimit 30\n  \
             [ pkts:         10  bytes:      10000  dropped pkts:      3 bytes:     99 ]\n  \
             [ qlength:   7/ 30 ]\n"
        );
        history.begin(1);
        let second = history.measure(&report(16));
        let text = shown(&report(16), Detail::Counters(second));
        assert!(text.ends_with("  [ measured:     1.2 packets/s, 9.60Kb/s ]\n"), "{text}");
        // Another load starts anew.
        history.begin(2);
        assert_eq!(history.measure(&report(20)), None);
    }

    #[test]
    fn rates_have_units() {
        for (rate, text) in [
            (0.0, "0 b"),
            (999.0, "999 b"),
            (1_000.0, "1Kb"),
            (1_234_567.0, "1.23Mb"),
            (25e9, "25Gb"),
            (5e12, "5000Gb"),
        ] {
            assert_eq!(rate_text(rate), text);
        }
    }
}
