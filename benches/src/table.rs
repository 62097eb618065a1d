//! Results as a table and as JSON.

use pf_load::median::median;
use serde_json::{Value, json};

/// Numbers of both sides of one bench.
#[derive(Clone, Debug)]
pub struct Bench {
    /// What was measured.
    pub name: &'static str,
    /// Unit of the numbers.
    pub unit: &'static str,
    /// Ratio that is to be reached.
    pub goal: f64,
    /// Bare packet I/O.
    pub bare: Vec<f64>,
    /// With the firewall.
    pub pfd: Vec<f64>,
}

impl Bench {
    /// Median with the firewall over median without.
    fn ratio(&self) -> f64 {
        median(&self.pfd) / median(&self.bare)
    }
}

/// Largest less smallest value, as a share of the median.
fn spread(values: &[f64]) -> f64 {
    let (low, high) = values
        .iter()
        .fold((f64::MAX, f64::MIN), |(low, high), &value| (low.min(value), high.max(value)));
    (high - low) / median(values)
}

/// Prints a line per bench.
pub fn print(benches: &[Bench]) {
    println!(
        "{:<36} {:<10} {:>10} {:>8} {:>10} {:>8} {:>7} {:>7}",
        "medians, interleaved", "", "bare", "spread", "pfd", "spread", "ratio", "goal"
    );
    for bench in benches {
        println!(
            "{:<36} {:<10} {:>10} {:>7.0}% {:>10} {:>7.0}% {:>7.2} {:>7.2}",
            bench.name,
            bench.unit,
            short(median(&bench.bare)),
            spread(&bench.bare) * 100.0,
            short(median(&bench.pfd)),
            spread(&bench.pfd) * 100.0,
            bench.ratio(),
            bench.goal,
        );
    }
}

/// 1234567 as 1.23 M.
fn short(value: f64) -> String {
    match value {
        _ if value >= 1e9 => format!("{:.2} G", value / 1e9),
        _ if value >= 1e6 => format!("{:.2} M", value / 1e6),
        _ if value >= 1e3 => format!("{:.1} k", value / 1e3),
        _ => format!("{value:.0}"),
    }
}

/// Everything, for machines.
pub fn json(benches: &[Bench]) -> Value {
    let list: Vec<Value> = benches
        .iter()
        .map(|bench| {
            json!({
                "name": bench.name,
                "unit": bench.unit,
                "goal": bench.goal,
                "ratio": bench.ratio(),
                "bare": { "median": median(&bench.bare), "runs": bench.bare },
                "pfd": { "median": median(&bench.pfd), "runs": bench.pfd },
            })
        })
        .collect();
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    json!({ "kernel": kernel.trim(), "cpus": cpus, "benches": list })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shown_short() {
        assert_eq!(
            [1_234_567.0, 12_345_678_900.0, 999.0, 45_600.0].map(short),
            ["1.23 M", "12.35 G", "999", "45.6 k"]
        );
    }
}
