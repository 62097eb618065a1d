//! What `pfctl -vsi` says, by section and name.

use std::collections::HashMap;

/// Numbers of one `pfctl -vsi`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Info {
    values: HashMap<(String, String), u64>,
    /// Whether cookies are sent now, where the text says so.
    pub cookies_active: Option<bool>,
}

impl Info {
    /// Reads the text. Lines of a form that is not known are passed over.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut info = Self::default();
        let mut section = "";
        for line in text.lines() {
            let Some(entry) = line.strip_prefix("  ") else {
                section = heading(line);
                continue;
            };
            if section.starts_with("Syncookies") {
                let mut words = entry.split_whitespace();
                if words.next() == Some("active") {
                    info.cookies_active =
                        words.next().map(|word| matches!(word, "active" | "yes" | "on" | "true"));
                }
            }
            if let Some((name, value)) = name_and_value(entry) {
                info.values.insert((section.to_owned(), name.to_owned()), value);
            }
        }
        info
    }

    /// A number; 0 when the text has no such line, as before the first event.
    #[must_use]
    pub fn get(&self, section: &str, name: &str) -> u64 {
        self.values.get(&(section.to_owned(), name.to_owned())).copied().unwrap_or(0)
    }

    /// States now.
    #[must_use]
    pub fn states(&self) -> u64 {
        self.get("State Table", "current entries")
    }

    /// Half-open connections now, by the count that drives syncookies.
    #[must_use]
    pub fn half_open(&self) -> u64 {
        self.get("State Table", "half-open tcp")
    }

    /// Cookies sent since the start.
    #[must_use]
    pub fn cookies_sent(&self) -> u64 {
        self.get("Limit Counters", "syncookies sent")
    }

    /// Cookies that came back valid since the start.
    #[must_use]
    pub fn cookies_validated(&self) -> u64 {
        self.get("Limit Counters", "syncookies validated")
    }

    /// Times that adaptive syncookies switched on.
    #[must_use]
    pub fn synfloods(&self) -> u64 {
        self.get("Limit Counters", "synfloods detected")
    }
}

/// `State Table                Total     Rate` is the section `State Table`.
fn heading(line: &str) -> &str {
    line.split_once("  ").map_or(line, |(title, _)| title).trim_end()
}

/// `half-open tcp      4` is (`half-open tcp`, 4); the columns are two spaces apart or more.
fn name_and_value(entry: &str) -> Option<(&str, u64)> {
    let (name, rest) = entry.trim_start().split_once("  ")?;
    Some((name.trim_end(), rest.split_whitespace().next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
Status: Enabled for 0 days 00:00:06              Debug: err

State Table                          Total             Rate
  current entries                      123
  half-open tcp                          4
  half-open tcp (pf)                     3
  inserts                            34567            0.1/s
Source Tracking Table
  current entries                        9
Counters
  match                              99999            0.4/s
Limit Counters
  synfloods detected                     1            0.0/s
  syncookies sent                     1000            0.0/s
  syncookies validated                  17            0.0/s
Adaptive Syncookies Watermarks
  start                              25000 states
";

    #[test]
    fn numbers_are_found_by_section() {
        let info = Info::parse(TEXT);
        assert_eq!((info.states(), info.half_open()), (123, 4));
        assert_eq!(
            (info.cookies_sent(), info.cookies_validated(), info.synfloods()),
            (1000, 17, 1)
        );
        assert_eq!(info.get("Source Tracking Table", "current entries"), 9);
        assert_eq!(info.get("Adaptive Syncookies Watermarks", "start"), 25_000);
        assert_eq!(info.get("Counters", "congestion"), 0);
        assert_eq!(info.cookies_active, None);
    }

    #[test]
    fn active_line_is_understood() {
        let text =
            "Syncookies\n  mode                      adaptive\n  active                 active\n";
        assert_eq!(Info::parse(text).cookies_active, Some(true));
        assert_eq!(
            Info::parse(&text.replace(" active\n", " inactive\n")).cookies_active,
            Some(false)
        );
    }
}
