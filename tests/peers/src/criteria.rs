//! What must hold, told from the numbers.

use pf_load::median::median;
use serde_json::Value;

/// One criterion, and what was measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What must hold.
    pub criterion: String,
    /// Whether it does.
    pub holds: bool,
    /// The numbers.
    pub seen: String,
}

/// Resident memory at the end of a flood may differ from that before it by this share.
const MEMORY_SHARE: f64 = 0.01;
/// Least share of the throughput of a calm day.
const CALM_SHARE: f64 = 0.95;
/// How connections behind cookies to a known server may differ from calm ones, by case: without
/// timestamps a cookie has four bits for everything, and 64 segment sizes with them; a window scale
/// that differs is translated.
const NAMED: [(&str, &str); 8] = [
    ("client without timestamps", "c: wscale 7/10→8/10; s: wscale 10/7→8/7"),
    ("client's shift 14, no timestamps", "c: wscale 7/14→8/14; s: wscale 14/7→8/7"),
    ("ECN, client without timestamps", "c: wscale 7/10→8/10 -ecn; s: wscale 10/7→8/7 -ecn"),
    ("client's MSS 1333", "s: mss 1321→1320"),
    ("IPv6, client's MSS 1333", "s: mss 1321→1320"),
    ("client's MSS 300", "s: mss 288→244"),
    ("client's MSS 1333, no timestamps", "c: wscale 7/10→8/10; s: mss 1333→1220 wscale 10/7→8/7"),
    ("server without timestamps", "c: wscale 7/10→8/10; s: wscale 10/7→8/7"),
];

/// Judges everything that was measured, in the form in which `--json` writes it. What was not
/// measured has no verdict.
#[must_use]
pub fn judge(report: &Value) -> Vec<Verdict> {
    let part = |name: &str| {
        let rows = report.pointer(&format!("/measurements/{name}")).and_then(Value::as_array);
        rows.cloned().unwrap_or_default()
    };
    let mut verdicts: Vec<Verdict> = part("requests").iter().filter_map(requests).collect();
    let scans = part("scans");
    verdicts.extend(scans.iter().filter_map(|row| scan(row, &scans)));
    verdicts.extend(part("guesses").iter().filter_map(guesses));
    verdicts.extend(part("replays").iter().filter_map(replays));
    verdicts.extend(part("memory").iter().map(memory));
    verdicts.extend(options(&part("options")));
    verdicts.extend(transfers(&part("transfers")));
    let failures = report.get("failures").and_then(Value::as_array);
    verdicts.push(measured(failures.map_or(&[], Vec::as_slice)));
    verdicts
}

/// What goes wrong through SYNPROXY is a result and told as one; all else must be measured.
fn measured(failures: &[Value]) -> Verdict {
    let (peers, ours): (Vec<&Value>, Vec<&Value>) = failures
        .iter()
        .partition(|failure| matches!(middle(failure), "synproxy" | "synproxy-bare"));
    Verdict {
        criterion: "everything could be measured".to_owned(),
        holds: ours.is_empty(),
        seen: format!("{} failures, and {} through SYNPROXY", ours.len(), peers.len()),
    }
}

/// Shows the verdicts; true when all criteria hold.
#[must_use]
pub fn show(verdicts: &[Verdict]) -> bool {
    println!("\nCriteria\n");
    for Verdict { criterion, holds, seen } in verdicts {
        println!("{} {criterion}: {seen}", if *holds { "pass" } else { "FAIL" });
    }
    let failed = verdicts.iter().filter(|verdict| !verdict.holds).count();
    println!("{} of {} criteria hold", verdicts.len() - failed, verdicts.len());
    failed == 0
}

fn number(row: &Value, field: &str) -> f64 {
    row.get(field).and_then(Value::as_f64).unwrap_or(f64::NAN)
}

fn text<'a>(row: &'a Value, field: &str) -> &'a str {
    row.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn middle(row: &Value) -> &str {
    text(row, "middle")
}

/// `pfd` as it is unless told to be classic.
fn is_ours(row: &Value) -> bool {
    matches!(middle(row), "calm" | "always" | "probing" | "flood")
}

fn requests(row: &Value) -> Option<Verdict> {
    let is_calm = middle(row) == "calm";
    // Without a defence a flood is expected to win.
    if !is_ours(row) || is_calm && number(row, "flood_rate") > 0.0 {
        return None;
    }
    let (failed, stalled) = (number(row, "failed"), number(row, "stalled"));
    Some(Verdict {
        criterion: format!("{}: every request is served in less than a second", middle(row)),
        holds: failed == 0.0 && stalled == 0.0,
        seen: format!(
            "{} served, {failed} failed, {stalled} stalled, {:.0} SYN/s",
            number(row, "served"),
            number(row, "flood_rate")
        ),
    })
}

fn scan(row: &Value, all: &[Value]) -> Option<Verdict> {
    if !is_ours(row) || middle(row) == "calm" {
        return None;
    }
    let same = |other: &&Value| middle(other) == "calm" && other["manner"] == row["manner"];
    let calm = all.iter().find(same)?;
    Some(Verdict {
        criterion: format!(
            "{}, {}: a scan sees what it sees on calm days",
            middle(row),
            row["manner"]
        ),
        holds: calm["states"] == row["states"],
        seen: format!("{} against {}", row["states"], calm["states"]),
    })
}

fn guesses(row: &Value) -> Option<Verdict> {
    let accepted = number(row, "accepted");
    is_ours(row).then(|| Verdict {
        criterion: format!("{}: no guess is accepted", middle(row)),
        holds: accepted == 0.0,
        seen: format!("{accepted} of {}", number(row, "sent")),
    })
}

fn replays(row: &Value) -> Option<Verdict> {
    let accepted = number(row, "accepted");
    is_ours(row).then(|| Verdict {
        criterion: format!("{}: no repeated acknowledgement is accepted", middle(row)),
        holds: accepted == 0.0,
        seen: format!("{accepted} of {}", number(row, "sent")),
    })
}

/// One verdict for each thing in the middle: all its connections are calm ones but for what is named.
fn options(rows: &[Value]) -> Vec<Verdict> {
    if !rows.iter().any(|row| middle(row) == "calm") {
        return Vec::new();
    }
    let judged = |name: &str| {
        let mine = rows.iter().filter(|row| middle(row) == name);
        let differences: Vec<(&str, &str)> = mine
            .map(|row| (text(row, "case"), text(row, "differs")))
            .filter(|(_, differs)| !differs.is_empty())
            .collect();
        let unnamed: Vec<String> = differences
            .iter()
            .filter(|difference| !NAMED.contains(difference))
            .map(|(case, differs)| format!("; {case}: {differs}"))
            .collect();
        let cases = rows.iter().filter(|row| middle(row) == name).count();
        (cases > 0).then(|| Verdict {
            criterion: format!(
                "{name}: options are those of a calm day, or their change has a name"
            ),
            holds: unnamed.is_empty(),
            seen: format!(
                "{} of {cases} equal, {} named{}",
                cases - differences.len(),
                differences.len() - unnamed.len(),
                unnamed.concat()
            ),
        })
    };
    ["always", "flood"].into_iter().filter_map(judged).collect()
}

/// One verdict for each line and way: the median of the shares that transfers behind cookies have of
/// the calm ones made next to them.
fn transfers(rows: &[Value]) -> Vec<Verdict> {
    let key = |row: &Value| (text(row, "line_is").to_owned(), text(row, "way").to_owned());
    let mut keys: Vec<(String, String)> = rows.iter().map(key).collect();
    keys.sort();
    keys.dedup();
    let rates = |name: &str, wanted: &(String, String)| -> Vec<f64> {
        let mine = rows.iter().filter(|row| middle(row) == name && key(row) == *wanted);
        mine.map(|row| number(row, "mbit_per_second")).collect()
    };
    let judged = |wanted: &(String, String)| {
        let (ours, calm) = (rates("always", wanted), rates("calm", wanted));
        let mut shares: Vec<f64> = ours.iter().zip(&calm).map(|(ours, calm)| ours / calm).collect();
        shares.sort_by(f64::total_cmp);
        if shares.is_empty() {
            return None;
        }
        let median = median(&shares);
        let all: Vec<String> = shares.iter().map(|share| format!("{:.0}", 100.0 * share)).collect();
        Some(Verdict {
            criterion: format!("{}, {}: as fast as on a calm day", wanted.0, wanted.1),
            holds: median >= CALM_SHARE,
            seen: format!("{:.0} % in the median of {}", 100.0 * median, all.join(", ")),
        })
    };
    keys.iter().filter_map(judged).collect()
}

fn memory(row: &Value) -> Verdict {
    let (before, after) = (number(row, "before_kib"), number(row, "after_kib"));
    let share = (after - before) / before;
    Verdict {
        criterion: format!("{}: a flood takes no memory", middle(row)),
        holds: share.abs() <= MEMORY_SHARE,
        seen: format!(
            "{before} KiB before, {after} KiB after {:.0} s at {:.0} SYN/s, {:+.1} %",
            number(row, "seconds"),
            number(row, "rate"),
            100.0 * share
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_was_measured_is_judged() {
        let request = |middle: &str, failed: u32, stalled: u32, flood: f64| json!({ "middle": middle, "served": 9, "failed": failed, "stalled": stalled, "flood_rate": flood });
        let scan = |middle: &str, open: u32| json!({ "middle": middle, "manner": "syn", "states": { "open": open } });
        let report = json!({
            "measurements": {
                "requests": [
                    request("plain", 5, 5, 9.0),
                    request("calm", 5, 5, 9.0),
                    request("calm", 0, 0, 0.0),
                    request("always", 0, 1, 9.0),
                    request("classic", 3, 3, 9.0),
                ],
                "scans": [scan("calm", 3), scan("probing", 3), scan("classic", 99)],
                "guesses": [
                    { "middle": "always", "sent": 100, "accepted": 1 },
                    { "middle": "synproxy", "sent": 100, "accepted": 4 },
                ],
                "options": [
                    { "middle": "calm", "case": "usual", "differs": "" },
                    { "middle": "always", "case": "usual", "differs": "" },
                    { "middle": "always", "case": "client's MSS 300", "differs": "s: mss 288→244" },
                    { "middle": "flood", "case": "usual", "differs": "s: mss 288→244" },
                ],
                "transfers": [
                    { "middle": "calm", "line_is": "a", "way": "up", "mbit_per_second": 100.0 },
                    { "middle": "always", "line_is": "a", "way": "up", "mbit_per_second": 96.0 },
                    { "middle": "calm", "line_is": "a", "way": "down", "mbit_per_second": 100.0 },
                    { "middle": "always", "line_is": "a", "way": "down", "mbit_per_second": 94.0 },
                    { "middle": "synproxy", "line_is": "a", "way": "down", "mbit_per_second": 4.0 },
                ],
                "memory": [
                    { "middle": "always", "before_kib": 1000, "after_kib": 1009, "seconds": 1, "rate": 1 },
                    { "middle": "flood", "before_kib": 1000, "after_kib": 1020, "seconds": 1, "rate": 1 },
                ],
            },
            "failures": [{ "middle": "synproxy-bare", "what": "transfers", "error": "broken" }],
        });
        let holds: Vec<bool> = judge(&report).iter().map(|verdict| verdict.holds).collect();
        assert_eq!(holds, [true, false, true, false, true, false, true, false, false, true, true]);
        assert!(!show(&judge(&report)));
        assert!(show(&judge(&json!({ "measurements": {}, "failures": [] }))));
        for middle in [json!("always"), json!("plain"), json!(null)] {
            let failure = json!({ "middle": middle, "what": "options", "error": "broken" });
            assert!(!show(&judge(&json!({ "measurements": {}, "failures": [failure] }))));
        }
    }
}
