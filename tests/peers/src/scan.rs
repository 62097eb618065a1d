//! A port scan: what nmap believes of the server's ports.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use pf_load::lab::{CLIENT, SERVER, run};
use serde::Serialize;

use crate::middle::{Middle, Plan};
use crate::pair::listen;
use crate::place::command;

/// Rules under which ports are open, closed by the server, closed by the firewall and silent.
const RULES: &str = "\
pass
block return in proto tcp to port 2000:2999
block drop in proto tcp to port 3000:3099
";
/// Ports on which the server listens; two of them are blocked.
const OPEN: [u16; 5] = [80, 443, 2500, 3050, 8080];

/// How nmap asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Manner {
    /// `-sS`: SYNs of its own making.
    Syn,
    /// `-sT`: connections by the kernel.
    Connect,
}

/// State of every port, as nmap says.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Scan {
    /// In the middle.
    pub middle: Middle,
    /// How it was asked.
    pub manner: Manner,
    /// How long it took.
    pub seconds: f64,
    /// Number of ports by state.
    pub states: BTreeMap<String, usize>,
    /// Ranges of ports by state.
    #[serde(skip)]
    pub ports: BTreeMap<u16, String>,
}

/// Scans ports 1 to `last` through one thing in the middle; a second time, when wanted, for a
/// firewall that has learned from the first. Returns the last scan.
///
/// # Errors
///
/// When nmap is missing or fails.
pub fn measure(middle: Middle, manner: Manner, last: u16) -> Result<Scan, String> {
    let _stand = Plan { rules: RULES, ..Plan::new(middle) }.start()?;
    let _listeners = OPEN
        .iter()
        .map(|&port| listen(([10, 77, 3, 2], port).into()))
        .collect::<Result<Vec<_>, _>>()?;
    let mut nmap = command(CLIENT, "nmap");
    nmap.args(["-n", "-Pn", "--max-retries", "4", "--min-rate", "3000", "--max-rate", "8000"])
        .args(["--max-rtt-timeout", "300ms", "-oX", "-"])
        .arg(if manner == Manner::Syn { "-sS" } else { "-sT" })
        .arg(format!("-p1-{last}"))
        .arg(SERVER.v4());
    let start = Instant::now();
    let output = run(&mut nmap, Duration::from_mins(5))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        return Err(format!("nmap: {text}{}", String::from_utf8_lossy(&output.stderr)));
    }
    let ports = parse(&text, last).ok_or_else(|| format!("nmap's output:\n{text}"))?;
    let mut states = BTreeMap::new();
    for state in ports.values() {
        *states.entry(state.clone()).or_default() += 1;
    }
    Ok(Scan { middle, manner, seconds: start.elapsed().as_secs_f64(), states, ports })
}

/// Reads nmap's XML: an element for every port, but for those of frequent states, whose numbers
/// are given as ranges.
fn parse(text: &str, last: u16) -> Option<BTreeMap<u16, String>> {
    let mut ports = BTreeMap::new();
    let mut frequent = "";
    let mut element = text.split('<').skip(1).peekable();
    while let Some(tag) = element.next() {
        match tag.split_whitespace().next()? {
            "port" => {
                let state = element.peek().filter(|tag| tag.starts_with("state "))?;
                let number = attribute(tag, "portid")?.parse().ok()?;
                ports.insert(number, attribute(state, "state")?.to_owned());
            }
            "extraports" => frequent = attribute(tag, "state")?,
            "extrareasons" => {
                for range in attribute(tag, "ports")?.split(',') {
                    let (first, last) = range.split_once('-').unwrap_or((range, range));
                    for port in first.parse::<u16>().ok()?..=last.parse().ok()? {
                        ports.insert(port, frequent.to_owned());
                    }
                }
            }
            _ => {}
        }
    }
    (ports.len() == usize::from(last)).then_some(ports)
}

fn attribute<'a>(tag: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = tag.split_once(&format!(" {name}=\""))?;
    rest.split('"').next()
}

/// Ports of which two scans say different things, with what they say; the first few of them.
#[must_use]
pub fn differences(one: &Scan, other: &Scan) -> (usize, Vec<String>) {
    let all: Vec<String> = one
        .ports
        .iter()
        .filter_map(|(port, state)| {
            let said = other.ports.get(port)?;
            (said != state).then(|| format!("{port}: {state}, {said}"))
        })
        .collect();
    (all.len(), all.into_iter().take(8).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_and_ranges_are_read() {
        let text = "<ports><extraports state=\"closed\" count=\"3\">\n\
                    <extrareasons reason=\"reset\" count=\"3\" proto=\"tcp\" ports=\"1,4-5\"/>\n\
                    </extraports>\n<port protocol=\"tcp\" portid=\"2\"><state state=\"open\" \
                    reason=\"syn-ack\"/></port>\n<port protocol=\"tcp\" portid=\"3\">\
                    <state state=\"filtered\" reason=\"no-response\"/></port></ports>";
        let ports = parse(text, 5).unwrap();
        let states: Vec<&str> = ports.values().map(String::as_str).collect();
        assert_eq!(states, ["closed", "open", "filtered", "closed", "closed"]);
        assert_eq!(parse(text, 6), None, "one is missing");
        assert_eq!(parse("", 4), None);
    }
}
