//! Rules in which no two lines are alike: any options in any order, lists of any length.

use crate::texts::{Numbers, add, lines};

/// Writes one rule after another.
struct Rules {
    numbers: Numbers,
    is_freebsd: bool,
}

impl Rules {
    fn new(is_freebsd: bool) -> Self {
        Self { numbers: Numbers::new(), is_freebsd }
    }

    fn below(&mut self, end: u64) -> u64 {
        self.numbers.next(end)
    }

    /// Whether something happens that happens `of_ten` times of ten.
    fn is(&mut self, of_ten: u64) -> bool {
        self.below(10) < of_ten
    }

    fn pick<'t>(&mut self, from: &[&'t str]) -> &'t str {
        let at = self.below(from.len() as u64);
        from[usize::try_from(at).unwrap_or_default()]
    }

    fn host(&mut self) -> String {
        let [a, b, c, d] = [(); 4].map(|()| self.below(254) + 1);
        format!("{a}.{b}.{c}.{d}")
    }

    fn network(&mut self, v6: bool) -> String {
        match (v6, self.below(2)) {
            (true, 0) => format!("2001:db8:{:x}::/48", self.below(65_536)),
            (true, _) => format!("2001:db8:{:x}::{:x}", self.below(65_536), self.below(65_536)),
            (false, 0) => format!("{}/{}", self.host(), self.below(20) + 9),
            (false, _) => self.host(),
        }
    }

    fn port(&mut self) -> String {
        match self.below(4) {
            0 => format!("{}:{}", self.below(1_000) + 1, self.below(60_000) + 1_001),
            1 => self.pick(&["www", "ssh", "domain", "smtp"]).to_owned(),
            2 => format!("> {}", self.below(60_000)),
            _ => (self.below(60_000) + 1).to_string(),
        }
    }

    /// One thing, or a list of two to ten.
    fn several(&mut self, one: impl Fn(&mut Self) -> String) -> String {
        if !self.is(2) {
            return one(self);
        }
        let count = self.below(9) + 2;
        let between = self.pick(&[", ", " "]);
        let items: Vec<String> = (0..count).map(|_| one(self)).collect();
        format!("{{ {} }}", items.join(between))
    }

    fn hosts(&mut self, v6: bool) -> String {
        match self.below(10) {
            0 | 1 => "any".to_owned(),
            2 => format!("<t{}>", self.below(5)),
            3 => format!("! {}", self.network(v6)),
            _ => self.several(|rules| rules.network(v6)),
        }
    }

    /// A rule for packets.
    fn filter(&mut self) -> String {
        let v6 = self.is(3);
        let action = self.pick(&["pass", "pass", "block", "block return", "block drop"]);
        let direction = self.pick(&["in", "out"]);
        let ports = self.is(8);
        let proto = if ports { self.pick(&["tcp", "udp"]) } else { "" };
        let mut words = vec![action.to_owned(), direction.to_owned()];
        words.extend(self.is(3).then(|| self.pick(&["log", "log (all)"]).to_owned()));
        words.extend(self.is(4).then(|| "quick".to_owned()));
        let on = self.pick(&["on em0", "on em1", "on { em0, em1 }", "on ! lo0", "on egress", ""]);
        words.push(on.to_owned());
        words.push(if v6 { "inet6" } else { "inet" }.to_owned());
        if ports {
            words.push(format!("proto {proto}"));
        }
        words.push(format!("from {}", self.hosts(v6)));
        words.push(format!("to {}", self.hosts(v6)));
        if ports && self.is(8) {
            words.push(format!("port {}", self.several(Self::port)));
        }
        words.extend(self.options(action == "pass", proto, v6, direction));
        words.retain(|word| !word.is_empty());
        words.join(" ")
    }

    /// Some options, in any order.
    fn options(&mut self, pass: bool, proto: &str, v6: bool, direction: &str) -> Vec<String> {
        let mut options = vec![
            format!("label \"r{}\"", self.below(1_000_000)),
            format!("tag T{}", self.below(1_000)),
            format!("{}tagged U{}", self.pick(&["", "! "]), self.below(1_000)),
            format!("tos {}", self.pick(&["lowdelay", "0x10", "16"])),
            format!("probability {}%", self.below(99) + 1),
            format!("prio {}", self.below(8)),
            format!("set prio {}", self.below(8)),
        ];
        if proto == "tcp" {
            options.push(self.pick(&["flags S/SA", "flags any"]).to_owned());
            options.push(format!("user {}", self.below(1_000)));
        }
        if pass {
            options.push("allow-opts".to_owned());
            options.push(self.state());
        }
        if !self.is_freebsd {
            options.push(format!("max-pkt-rate {}/{}", self.below(99) + 1, self.below(99) + 1));
            if pass && !v6 {
                let (addr, port) = (self.host(), self.below(60_000) + 1);
                let redirected = direction == "in" && !proto.is_empty();
                options.push(if redirected {
                    format!("rdr-to {addr} port {port}")
                } else {
                    format!("nat-to {addr}")
                });
            }
        }
        options.retain(|_| self.is(2));
        for at in (1..options.len()).rev() {
            let other = self.below(at as u64 + 1);
            options.swap(at, usize::try_from(other).unwrap_or_default());
        }
        options
    }

    fn state(&mut self) -> String {
        let mut options = vec![
            format!("max {}", self.below(9_999) + 1),
            format!("tcp.established {}", self.below(9_999) + 60),
            "sloppy".to_owned(),
            "if-bound".to_owned(),
            "no-sync".to_owned(),
        ];
        options.retain(|_| self.is(4));
        if options.is_empty() {
            "keep state".to_owned()
        } else {
            format!("keep state ({})", options.join(", "))
        }
    }

    fn scrub(&mut self) -> String {
        let option = match self.below(3) {
            0 => "no-df".to_owned(),
            1 => format!("max-mss {}", self.below(1_000) + 460),
            _ => format!("min-ttl {} random-id", self.below(250) + 1),
        };
        format!(
            "scrub {} on em0 from {} to any {option}",
            self.pick(&["in", "out"]),
            self.hosts(false)
        )
    }

    fn translation(&mut self) -> String {
        let (on, from, addr) = (self.pick(&["em0", "em1"]), self.network(false), self.host());
        match self.below(5) {
            0 => format!("no nat on {on} inet from {from} to {addr}"),
            1 | 2 => {
                let option = self.pick(&["", " static-port", " port 1024:65535"]);
                format!("nat on {on} inet from {from} to {} -> {addr}{option}", self.hosts(false))
            }
            _ => {
                let [port, target] = [(); 2].map(|()| self.below(60_000) + 1);
                let to = self.host();
                format!(
                    "rdr on {on} inet proto tcp from {from} to {addr} port {port} -> {to} port {target}"
                )
            }
        }
    }
}

/// Five tables, which rules speak of.
fn tables() -> String {
    let mut text = String::new();
    for number in 0..5 {
        add(&mut text, format_args!("table <t{number}> persist"));
    }
    text
}

/// Filter rules of OpenBSD.
pub fn filter(len: usize) -> String {
    let mut rules = Rules::new(false);
    tables() + &lines(len, |text, _| add(text, format_args!("{}", rules.filter())))
}

/// The same in anchors of one to eight rules.
pub fn anchors(len: usize) -> String {
    let mut rules = Rules::new(false);
    let mut name = 0;
    let anchor = |text: &mut String, _: &mut Numbers| {
        name += 1;
        add(text, format_args!("anchor \"a{name}\" in on em0 {{"));
        for _ in 0..=rules.below(8) {
            add(text, format_args!("\t{}", rules.filter()));
        }
        text.push_str("}\n");
    };
    tables() + &lines(len, anchor)
}

/// `scrub`, translation and filter rules of FreeBSD.
pub fn freebsd(len: usize) -> String {
    let mut rules = Rules::new(true);
    let mut part = |len: usize, rule: fn(&mut Rules) -> String| {
        lines(len, |text, _| add(text, format_args!("{}", rule(&mut rules))))
    };
    tables()
        + &part(len / 10, Rules::scrub)
        + &part(len / 10 * 3, Rules::translation)
        + &part(len / 10 * 6, Rules::filter)
}
