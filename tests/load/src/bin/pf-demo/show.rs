//! What the demo prints.

use crate::Arguments;
use pf_load::client::Failures;

use crate::rules::STATE_LIMIT;
use crate::stage::{Outcome, Phase};

/// Says what will be seen.
pub fn opening(arguments: &Arguments) {
    let Arguments { flood_rate, rate, rules, .. } = arguments;
    println!("client ── tun0 ──┐");
    println!("attacker ─ tun1 ─┼─ pfd with {}", rules.display());
    println!("server ── tun2 ──┘");
    println!(
        "honest users ask {rate} times a second, over IPv4 and over IPv6, all the time; the \
         attacker floods with {flood_rate} SYN/s each"
    );
    if arguments.without_syncookies {
        println!("syncookies are off, and the firewall holds at most {STATE_LIMIT} states");
    }
    println!();
    println!(
        "{:<6} {:<5} {:>7} {:>7} {:>9} {:>9} {:>10} {:>9} {:>7}  {:<10} {:>9} {:>9}",
        "phase",
        "",
        "served",
        "failed",
        "p50 ms",
        "p99 ms",
        "flood/s",
        "half-open",
        "states",
        "syncookies",
        "sent",
        "validated"
    );
}

/// Tells of a switch when it happens.
pub fn switch(phase: Phase, at: f64, active: bool, half_open: u64) {
    let word = if active { "on" } else { "off" };
    println!(
        "  ── syncookies switched {word} {at:.1} s after the {}: {half_open} half-open",
        match phase {
            Phase::Calm => "start",
            Phase::Flood => "flood began",
            Phase::After => "flood ended",
        }
    );
}

/// One line per family.
pub fn phase(outcome: &Outcome) {
    let name = match outcome.phase {
        Phase::Calm => "calm",
        Phase::Flood => "flood",
        Phase::After => "after",
    };
    let cookies = if outcome.cookies_active { "on" } else { "off" };
    for (family, label) in outcome.families.iter().zip(["IPv4", "IPv6"]) {
        let milliseconds = |per_mille| micros(family.requests.latency.per_mille(per_mille));
        println!(
            "{:<6} {:<5} {:>7} {:>7} {:>9.1} {:>9.1} {:>10.0} {:>9} {:>7}  {:<10} {:>9} {:>9}",
            name,
            label,
            family.requests.ok,
            family.requests.failures.total() + family.requests.not_started,
            milliseconds(500),
            milliseconds(990),
            rate(family.flood_offered, outcome.seconds),
            outcome.half_open_max,
            outcome.states_max,
            cookies,
            outcome.cookies_sent,
            outcome.cookies_validated,
        );
    }
}

/// Prints the last line; true when the demo showed what it is to show.
pub fn conclusion(without_syncookies: bool, outcomes: &[Outcome]) -> bool {
    let total = |phases: &[Outcome]| {
        phases.iter().flat_map(|outcome| &outcome.families).fold((0, 0), |(ok, failed), family| {
            let requests = &family.requests;
            (ok + requests.ok, failed + requests.failures.total() + requests.not_started)
        })
    };
    println!();
    if without_syncookies {
        let (ok, failed) = total(&outcomes[1..]);
        let starved = failed > ok / 4;
        println!(
            "{}: without syncookies {failed} of {} honest requests failed from the flood on; \
             `make demo` shows the same flood with them",
            if starved { "as expected" } else { "NOT SHOWN" },
            ok + failed,
        );
        return starved;
    }
    let (ok, failed) = total(outcomes);
    let switched = |wanted| {
        outcomes.iter().flat_map(|outcome| &outcome.switches).any(|&(_, active)| active == wanted)
    };
    let offered: u64 =
        outcomes.iter().flat_map(|o| &o.families).map(|family| family.flood_offered).sum();
    let mut faults = Vec::new();
    if failed > 0 {
        let mut kinds = Failures::default();
        for family in outcomes.iter().flat_map(|outcome| &outcome.families) {
            kinds.add(&family.requests.failures);
        }
        let kinds = kinds.in_words();
        faults.push(format!("{failed} of {} honest requests failed ({kinds})", ok + failed));
    }
    for (family, label) in ["IPv4", "IPv6"].iter().enumerate() {
        if outcomes.iter().any(|outcome| outcome.families[family].requests.ok == 0) {
            faults.push(format!("a phase without any honest request served over {label}"));
        }
    }
    if !switched(true) {
        faults.push("syncookies did not switch on".to_owned());
    }
    if !switched(false) {
        faults.push("syncookies did not switch off again".to_owned());
    }
    if faults.is_empty() {
        println!(
            "RESULT: {offered} SYNs of a flood, {ok} honest requests: every one was served, and \
             syncookies switched on and off by themselves"
        );
        return true;
    }
    println!("RESULT: FAILED: {}", faults.join("; "));
    false
}

#[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
fn micros(value: u64) -> f64 {
    value as f64 / 1000.0
}

#[expect(clippy::cast_precision_loss, reason = "no decimals are shown")]
fn rate(count: u64, seconds: f64) -> f64 {
    count as f64 / seconds.max(1e-9)
}
