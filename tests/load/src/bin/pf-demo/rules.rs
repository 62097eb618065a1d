//! The demo's rules, changed for the run without syncookies.

/// States that the firewall may hold in the run without syncookies: enough for the honest users
/// of the calm phase, and soon full of the flood's.
pub const STATE_LIMIT: u32 = 10_000;

/// The same rules with `set syncookies never` and a small state table.
pub fn without_syncookies(rules: &str) -> String {
    let kept = rules.lines().filter(|line| {
        let mut words = line.split_whitespace();
        let setting = (words.next(), words.next());
        let dropped = match setting {
            (Some("set"), Some("syncookies")) => true,
            (Some("set"), Some("limit")) => line.contains("states") && !line.contains("src-states"),
            _ => false,
        };
        !dropped
    });
    let head = format!("set limit states {STATE_LIMIT}\nset syncookies never\n");
    kept.fold(head, |text, line| text + line + "\n")
}

#[cfg(test)]
mod tests {
    #[test]
    fn settings_are_replaced_and_rules_are_kept() {
        let rules = "set limit states 50000\nset syncookies adaptive (start 25%, end 12%)\n\
                     set timeout tcp.opening 10\nblock return\npass proto tcp to port 80\n";
        assert_eq!(
            super::without_syncookies(rules),
            "set limit states 10000\nset syncookies never\nset timeout tcp.opening 10\n\
             block return\npass proto tcp to port 80\n"
        );
    }
}
