//! Status as text of the exposition format.
//!
//! Source: Prometheus, "Exposition formats", text format 0.0.4.

use core::fmt::{Display, Write};

use pfapi::control::Info;

/// The text of a status.
pub fn write(info: &Info) -> String {
    let mut page = Page(String::with_capacity(8 * 1024));
    page.gauge("pf_enabled", "Whether the filter is enabled.", u64::from(info.enabled));
    page.gauge("pf_states", "States.", info.states);
    page.gauge("pf_half_open", "Half-open TCP connections that drive syncookies.", info.half_open);
    page.gauge("pf_source_nodes", "Source nodes.", info.source_nodes);
    page.gauge("pf_fragments", "Fragments held.", info.fragments);
    let named = |counters: &[(pfapi::reason::TableCounter, u64)]| {
        counters.iter().map(|(name, count)| (name.name(), *count)).collect::<Vec<_>>()
    };
    for (name, help, counters) in [
        ("pf_state_table_total", "Operations on the state table.", named(&info.state_table)),
        ("pf_source_table_total", "Operations on the source table.", named(&info.source_table)),
        ("pf_fragment_table_total", "Operations on fragments.", named(&info.fragment_table)),
    ] {
        page.counters(name, help, "operation", counters);
    }
    let reasons = info.reasons.iter().map(|(reason, count)| (reason.name(), *count));
    page.counters("pf_packets_total", "Packets by reason.", "reason", reasons);
    let limits = info.limit_counters.iter().map(|(limit, count)| (limit.name(), *count));
    page.counters("pf_limits_total", "Limits that were reached.", "limit", limits);
    cookies(&mut page, info);
    page.0
}

fn cookies(page: &mut Page, info: &Info) {
    let cookies = &info.syncookies;
    page.head("pf_syncookies_info", "gauge", "Mode of syncookies.");
    let behaviour = if cookies.classic { "classic" } else { "default" };
    let labels = [("mode", cookies.mode.name()), ("behaviour", behaviour)];
    page.sample("pf_syncookies_info", &labels, 1);
    let marks = cookies.watermarks;
    let destinations = cookies.destinations.len() as u64;
    for (name, help, value) in [
        ("pf_syncookies_active", "Whether cookies are sent.", u64::from(cookies.active)),
        (
            "pf_syncookies_active_for_all",
            "Whether cookies are sent for all destinations.",
            u64::from(cookies.active_for_all),
        ),
        ("pf_syncookies_in_flight", "Cookies that may come back.", cookies.in_flight),
        ("pf_syncookies_start", "High mark in connections.", u64::from(marks.start)),
        ("pf_syncookies_end", "Low mark in connections.", u64::from(marks.end)),
        ("pf_syncookies_destinations", "Destinations with cookies of their own.", destinations),
    ] {
        page.gauge(name, help, value);
    }
    let events = cookies.counters.iter().map(|(event, count)| (event.name(), *count));
    page.counters("pf_syncookies_total", "Events around syncookies.", "event", events);
    if cookies.destinations.is_empty() {
        return;
    }
    let help = "Half-open connections of a destination with cookies of its own.";
    page.head("pf_syncookies_destination_half_open", "gauge", help);
    for destination in &cookies.destinations {
        let addr = destination.addr.to_string();
        let port = destination.port.map_or_else(|| "all".to_owned(), |port| port.to_string());
        let labels = [("address", addr.as_str()), ("port", port.as_str())];
        page.sample("pf_syncookies_destination_half_open", &labels, destination.half_open);
    }
}

struct Page(String);

impl Page {
    fn line(&mut self, line: impl Display) {
        writeln!(self.0, "{line}").expect("a string takes everything");
    }

    fn head(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    /// Names and values are our own words, addresses and numbers: nothing has to be escaped.
    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        let labels: Vec<String> =
            labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
        let labels =
            if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        self.line(format_args!("{name}{labels} {value}"));
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.head(name, "gauge", help);
        self.sample(name, &[], value);
    }

    fn counters<'a>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        counters: impl IntoIterator<Item = (&'a str, u64)>,
    ) {
        self.head(name, "counter", help);
        for (value, count) in counters {
            self.sample(name, &[(label, value)], count);
        }
    }
}
