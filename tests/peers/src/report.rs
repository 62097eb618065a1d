//! Results on the screen and as JSON.

use std::collections::BTreeMap;

use pf_peers::forgery::{Guesses, Memory, Replays};
use pf_peers::middle::Middle;
use pf_peers::options::{CASES, Cell, difference, in_words};
use pf_peers::requests::Outcome;
use pf_peers::scan::{Manner, Scan, differences};
use pf_peers::speed::Speed;
use pf_peers::transfer::{Transfer, Way, median_rate};
use serde::Serialize;
use serde_json::{Value, json};

/// Everything measured so far.
#[derive(Debug, Default)]
pub struct Report {
    options: Vec<Cell>,
    scans: Vec<Scan>,
    json: BTreeMap<&'static str, Vec<Value>>,
    failures: Vec<Failure>,
}

/// What could not be measured.
#[derive(Debug, Serialize)]
struct Failure {
    /// What stood in the middle.
    middle: Option<Middle>,
    what: String,
    error: String,
}

impl Report {
    /// All numbers.
    pub fn to_json(&self) -> Value {
        json!({ "measurements": self.json, "failures": self.failures })
    }

    /// Begins a part.
    #[expect(clippy::unused_self, reason = "one way to print for all parts")]
    pub fn title(&self, text: &str) {
        println!("\n{text}\n");
    }

    /// Says what is being measured, where somebody watches.
    #[expect(clippy::unused_self, reason = "one way to print for all parts")]
    pub fn doing(&self, what: &str) {
        use std::io::IsTerminal;
        if std::io::stderr().is_terminal() {
            eprint!("\r\x1b[K{what} ...\r");
        }
    }

    /// Notes what could not be measured, through what.
    pub fn failed(&mut self, middle: Option<Middle>, what: &str, error: &str) {
        let through = middle.map_or_else(String::new, |middle| format!("{}, ", middle.name()));
        println!("{through}{what}: not measured: {error}");
        self.failures.push(Failure { middle, what: what.to_owned(), error: error.to_owned() });
    }

    fn keep(&mut self, part: &'static str, value: impl Serialize) {
        self.json.entry(part).or_default().push(serde_json::to_value(value).unwrap_or_default());
    }

    /// Takes a column of the table of options.
    pub fn options(&mut self, middle: Middle, cells: Result<Vec<Cell>, String>) {
        match cells {
            Ok(cells) => {
                for cell in cells {
                    let mut value = serde_json::to_value(&cell).unwrap_or_default();
                    value["differs"] = self.differs_from_calm(&cell).into();
                    self.keep("options", value);
                    self.options.push(cell);
                }
            }
            Err(error) => self.failed(Some(middle), "options", &error),
        }
    }

    /// How a connection to a known server differs from the one with cookies off, or why there is none.
    fn differs_from_calm(&self, cell: &Cell) -> String {
        let is_calm = |other: &&Cell| other.middle == Middle::Calm && other.case == cell.case;
        let calm = self.options.iter().find(is_calm).map(|calm| &calm.later);
        match (calm, &cell.later) {
            (Some(Ok(calm)), Ok(seen)) => difference(calm, seen),
            (_, Err(error)) => format!("failed: {error}"),
            // What comes before it, and a run without it, is compared with nothing.
            (None, Ok(_)) => String::new(),
            (Some(Err(error)), Ok(_)) => format!("calm failed: {error}"),
        }
    }

    /// Prints how every connection differs from the same one without a firewall.
    pub fn show_options(&self) {
        let find = |middle: Middle, case: &str| {
            self.options.iter().find(|cell| cell.middle == middle && cell.case == case)
        };
        println!("c is the client's end, s the server's; `=` is as without a firewall\n");
        for case in CASES {
            // What is translated cannot be reached without a firewall; nothing else may change.
            let reference =
                find(Middle::Plain, case.name).or_else(|| find(Middle::Plain, CASES[0].name));
            let Some(Ok(reference)) = reference.map(|cell| &cell.later) else {
                println!("{}: no reference", case.name);
                continue;
            };
            println!("{:<34} {}", case.name, in_words(reference));
            for middle in Middle::ALL.into_iter().skip(1) {
                let Some(cell) = find(middle, case.name) else { continue };
                let word = |seen: &Result<_, String>| match seen {
                    Ok(seen) => match difference(reference, seen) {
                        text if text.is_empty() => "=".to_owned(),
                        text => text,
                    },
                    Err(error) => format!("failed: {error}"),
                };
                let (first, later) = (word(&cell.first), word(&cell.later));
                if first == later {
                    println!("  {:<14} {later}", middle.name());
                } else {
                    println!("  {:<14} first {first} | later {later}", middle.name());
                }
            }
        }
    }

    /// Head of the table of requests.
    #[expect(clippy::unused_self, reason = "one way to print for all parts")]
    pub fn requests_head(&self) {
        println!(
            "{:<12} {:>9} {:>8} {:>7} {:>9} {:>8} {:>8} {:>9} {:>9} {:>10} {:>9}",
            "",
            "flood/s",
            "served",
            "failed",
            "1 s stall",
            "p50 ms",
            "p99 ms",
            "p99.9 ms",
            "max ms",
            "cookies",
            "accepted"
        );
    }

    /// A row of the table of requests.
    pub fn requests(&mut self, middle: Middle, flood: u64, outcome: Result<Outcome, String>) {
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(error) => {
                return self.failed(Some(middle), &format!("requests, flood {flood}"), &error);
            }
        };
        let [p50, p99, p999, max] = outcome.latency_ms;
        println!(
            "{:<12} {:>9.0} {:>8} {:>7} {:>9} {p50:>8.1} {p99:>8.1} {p999:>9.1} {max:>9.1} {:>10} {:>9} {}",
            middle.name(),
            outcome.flood_rate,
            outcome.served,
            outcome.failed,
            outcome.stalled,
            outcome.cookies_sent,
            outcome.cookies_accepted,
            outcome.why,
        );
        self.keep("requests", &outcome);
    }

    /// Connections and SYNs per second.
    pub fn speed(&mut self, middle: Middle, speed: Result<Speed, String>) {
        let speed = match speed {
            Ok(speed) => speed,
            Err(error) => return self.failed(Some(middle), "speed", &error),
        };
        println!(
            "{:<12} one after the other {:.2} ms each; 64 at a time {:.0}/s; {:.0} cookies/s of {:.0} SYN/s",
            middle.name(),
            speed.first_reply_ms,
            speed.connections_per_second,
            speed.answers_per_second,
            speed.flood_per_second
        );
        self.keep("speed", speed);
    }

    /// A port scan; those with cookies are compared with the one without.
    pub fn scan(&mut self, middle: Middle, manner: Manner, scan: Result<Scan, String>) {
        let scan = match scan {
            Ok(scan) => scan,
            Err(error) => return self.failed(Some(middle), &format!("scan, {manner:?}"), &error),
        };
        let states: Vec<String> =
            scan.states.iter().map(|(state, count)| format!("{count} {state}")).collect();
        let calm =
            self.scans.iter().find(|other| other.middle == Middle::Calm && other.manner == manner);
        let verdict = calm.map_or_else(String::new, |calm| match differences(calm, &scan) {
            (0, _) => "; the same, port by port".to_owned(),
            (count, few) => format!("; {count} ports differ from calm: {}", few.join("; ")),
        });
        let flag = if manner == Manner::Syn { "-sS" } else { "-sT" };
        println!(
            "{flag} {:<12} {:>5.0} s  {}{verdict}",
            middle.name(),
            scan.seconds,
            states.join(", ")
        );
        self.keep("scans", &scan);
        self.scans.push(scan);
    }

    /// Guessed acknowledgements.
    pub fn guesses(&mut self, middle: Middle, guesses: Result<Guesses, String>) {
        match guesses {
            Ok(guesses) => {
                println!(
                    "{:<12} {} guessed {} timestamps at {:.0} a second: {} accepted, {} counted as wrong",
                    middle.name(),
                    guesses.sent,
                    if guesses.stamped { "with" } else { "without" },
                    guesses.rate,
                    guesses.accepted,
                    guesses.refused
                );
                self.keep("guesses", guesses);
            }
            Err(error) => self.failed(Some(middle), "guesses", &error),
        }
    }

    /// Repeated acknowledgements.
    pub fn replays(&mut self, middle: Middle, replays: Result<Replays, String>) {
        match replays {
            Ok(replays) => {
                println!(
                    "{:<12} one repeated {} times: {} accepted",
                    middle.name(),
                    replays.sent,
                    replays.accepted
                );
                self.keep("replays", replays);
            }
            Err(error) => self.failed(Some(middle), "replays", &error),
        }
    }

    /// Memory of the daemon.
    pub fn memory(&mut self, middle: Middle, memory: Result<Memory, String>) {
        match memory {
            Ok(memory) => {
                println!(
                    "{:<12} {:.0} s of {:.0} SYN/s: resident {} KiB before, {} KiB after a twentieth, {} KiB at the end",
                    middle.name(),
                    memory.seconds,
                    memory.rate,
                    memory.before_kib,
                    memory.early_kib,
                    memory.after_kib
                );
                self.keep("memory", memory);
            }
            Err(error) => self.failed(Some(middle), "memory", &error),
        }
    }

    /// A table of transfers.
    pub fn transfers(&mut self, name: &str, transfers: Vec<Transfer>) {
        println!("{name}");
        println!(
            "  {:<12} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>12} {:>9}",
            "",
            "up Mbit/s",
            "of calm",
            "down",
            "of calm",
            "MB",
            "lost",
            "SACK blocks",
            "sent again"
        );
        for middle in Middle::ALL {
            let rate = |way| median_rate(&transfers, middle, way);
            let (Some(up), Some(down)) = (rate(Way::Up), rate(Way::Down)) else { continue };
            let share = |way, rate: f64| {
                median_rate(&transfers, Middle::Calm, way)
                    .map_or_else(String::new, |calm| format!("{:.0} %", 100.0 * rate / calm))
            };
            let mine = || transfers.iter().filter(|one| one.middle == middle);
            let sum = |count: fn(&Transfer) -> u64| mine().map(count).sum::<u64>();
            println!(
                "  {:<12} {up:>9.0} {:>9} {down:>9.0} {:>9} {:>9} {:>9} {:>12} {:>9}",
                middle.name(),
                share(Way::Up, up),
                share(Way::Down, down),
                sum(|one| one.octets) / 1_000_000,
                sum(|one| one.line.lost),
                sum(|one| one.line.sack_blocks_sent + one.line.sack_blocks_received),
                sum(|one| u64::from(one.retransmits)),
            );
        }
        for transfer in transfers {
            let mut value = serde_json::to_value(&transfer).unwrap_or_default();
            value["line_is"] = name.into();
            self.keep("transfers", value);
        }
    }

    /// How long first replies took.
    pub fn first_replies(&mut self, middle: Middle, replies: Result<Vec<f64>, String>) {
        let mut replies = match replies {
            Ok(replies) => replies,
            Err(error) => return self.failed(Some(middle), "first replies", &error),
        };
        let Some(&first) = replies.first() else { return };
        replies.sort_by(f64::total_cmp);
        let median = replies[replies.len() / 2];
        println!(
            "  {:<12} reply after {first:.1} ms on the first connection, {median:.1} ms in the median",
            middle.name()
        );
        let value = serde_json::json!({ "middle": middle, "first_ms": first, "median_ms": median });
        self.keep("first_replies", value);
    }
}
