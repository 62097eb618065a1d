//! Texts to read: the same in every run.

use std::fmt::Write;

/// Numbers that look random (a multiplicative generator of Lehmer's).
pub struct Numbers(u64);

impl Numbers {
    pub const fn new() -> Self {
        Self(1)
    }

    /// Below `below`.
    pub fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0 * 48_271 % 2_147_483_647;
        self.0 % below
    }
}

/// `len` octets of lines that `line` appends.
pub fn lines(len: usize, mut line: impl FnMut(&mut String, &mut Numbers)) -> String {
    let mut text = String::with_capacity(len + 200);
    let mut numbers = Numbers::new();
    while text.len() < len {
        line(&mut text, &mut numbers);
    }
    text
}

/// Appends a line.
pub fn add(text: &mut String, line: std::fmt::Arguments) {
    // Writing to a string cannot fail.
    let _ = text.write_fmt(line);
    text.push('\n');
}

/// What large files have: a few kinds of rules, many times, and comments.
pub fn rules(len: usize) -> String {
    lines(len, |text, numbers| {
        let [a, b, c] = [(); 3].map(|()| numbers.next(256));
        let port = numbers.next(60_000) + 1_024;
        match numbers.next(6) {
            0 | 1 => add(
                text,
                format_args!(
                    "pass in quick on em0 proto tcp from 10.{a}.{b}.0/24 to any port {port} keep state"
                ),
            ),
            2 => add(
                text,
                format_args!(
                    "block drop in log on em1 inet proto {{ tcp udp }} from any to 192.168.{a}.{b} \
                     port {{ 80, 443, {port} }}"
                ),
            ),
            3 => add(
                text,
                format_args!(
                    "match in on em0 inet6 proto udp from 2001:db8:{a:x}::/48 to any tag T{c}"
                ),
            ),
            4 => add(
                text,
                format_args!("pass out on em1 inet from 10.{a}.0.0/16 to any nat-to 192.0.2.{b}"),
            ),
            _ => add(text, format_args!("# comment number {port}")),
        }
    })
}

/// Rules with other options in each line, so that hardly two lines are of one kind.
pub fn varied(len: usize) -> String {
    const OPTIONS: [&str; 12] = [
        "tos 16",
        "label \"x\"",
        "tag T",
        "tagged U",
        "probability 50%",
        "allow-opts",
        "user 7",
        "group 8",
        "prio 3",
        "set prio 4",
        "max-pkt-rate 100/10",
        "flags S/SA",
    ];
    lines(len, |text, numbers| {
        text.push_str("pass in on em0 inet proto tcp to port ");
        let _ = write!(text, "{}", numbers.next(65_000));
        let mut start = 0;
        while start < OPTIONS.len() {
            if numbers.next(2) == 0 {
                text.push(' ');
                text.push_str(OPTIONS[start]);
            }
            start += 1;
        }
        text.push_str(if numbers.next(2) == 0 { " keep state\n" } else { " keep state (max 9)\n" });
    })
}

/// Long comments with a rule here and there.
pub fn comments(len: usize) -> String {
    lines(len, |text, numbers| {
        if numbers.next(20) == 0 {
            text.push_str("pass in on em0\n");
        }
        add(text, format_args!("# {}", "what the next rules are for, and since when; ".repeat(3)));
    })
}

/// Macros with lists that multiply.
pub fn lists() -> String {
    let mut text = "ports = \"{ 22 25 53 80 110 143 443 587 993 995 }\"\n".to_owned();
    let mut numbers = Numbers::new();
    for host in 0..100 {
        let _ = write!(text, "h{host} = \"{{");
        for _ in 0..20 {
            let [a, b] = [(); 2].map(|()| numbers.next(256));
            let _ = write!(text, " 10.{a}.{b}.1");
        }
        text.push_str(" }\"\n");
    }
    for rule in 0..500 {
        let host = rule % 100;
        add(
            &mut text,
            format_args!("pass in on em0 proto tcp from $h{host} to any port $ports keep state"),
        );
    }
    text
}

/// A list in braces.
fn list(count: u32, item: impl Fn(u32) -> String) -> String {
    let items: Vec<String> = (0..count).map(item).collect();
    format!("{{ {} }}", items.join(" "))
}

/// Lists that multiply to almost as many rules as a ruleset may have, all in one superblock.
pub fn products() -> String {
    let mut text = String::new();
    let mut numbers = Numbers::new();
    for rule in 0..24 {
        let from = list(30, |host| format!("10.{rule}.0.{host}"));
        let to = list(30, |host| format!("10.{}.0.{host}", rule + 50));
        let ports: Vec<u64> = (0..10).map(|_| numbers.next(60_000) + 1).collect();
        let ports = list(10, |at| ports[at as usize].to_string());
        add(&mut text, format_args!("pass proto {{ tcp udp }} from {from} to {to} port {ports}"));
    }
    text
}

/// Networks of all lengths, of which none holds another.
pub fn lengths() -> String {
    let side = |front: u32| list(112, |n| format!("{front:x}{n:02x}::/{}", n + 16));
    let ports = list(35, |port| (port + 1).to_string());
    let (from, to) = (side(0x20), side(0x21));
    format!("pass inet6 proto tcp from {from} to {to} port {ports}\n")
}

/// Hosts within networks within networks, on both sides, and no rule that holds another.
pub fn nested() -> String {
    let networks = |first: u8| {
        list(24, |n| {
            let len = n + 9;
            let addr = u32::from_be_bytes([first, 255, 255, 255]) & u32::MAX << (32 - len);
            format!("{}/{len}", std::net::Ipv4Addr::from_bits(addr))
        })
    };
    let hosts = |first: u8| list(600, |n| format!("{first}.255.{}.{}", n / 250 + 200, n % 250));
    let mut text = String::new();
    add(&mut text, format_args!("pass proto tcp from {} to 192.0.2.1", networks(10)));
    add(&mut text, format_args!("pass proto tcp from 192.0.2.2 to {}", networks(11)));
    add(&mut text, format_args!("pass proto tcp from {} to {}", hosts(10), hosts(11)));
    text
}

fn addresses(count: usize, separator: &str) -> String {
    let mut text = String::new();
    for number in 0..count {
        let octets = u32::try_from(number).unwrap_or_default().wrapping_mul(2_654_435_761);
        let _ = write!(text, "{}{separator}", std::net::Ipv4Addr::from_bits(octets));
    }
    text.truncate(text.len() - separator.len());
    text
}

/// A rule for many addresses.
pub fn one_list(count: usize) -> String {
    format!("pass in proto tcp from {{ {} }} to any port 80\n", addresses(count, ", "))
}

/// A table in the file.
pub fn table(count: usize) -> String {
    format!("table <t> {{ {} }}\n", addresses(count, ", "))
}

/// A table beside the file.
pub fn list_file(count: usize) -> String {
    addresses(count, "\n") + "\n"
}

/// Anchors in anchors.
pub fn anchors(len: usize) -> String {
    let mut name = 0;
    lines(len, |text, _| {
        name += 1;
        add(text, format_args!("anchor a{name} on em0 {{"));
        for depth in 0..20 {
            add(text, format_args!("anchor d{depth} {{\n pass in proto tcp to port {depth}"));
        }
        text.push_str(&"}\n".repeat(21));
    })
}

/// Translation and filter rules of FreeBSD.
pub fn freebsd(len: usize) -> String {
    let front = lines(len / 2, |text, numbers| {
        let [a, b] = [(); 2].map(|()| numbers.next(256));
        match numbers.next(2) {
            0 => {
                add(text, format_args!("nat on em0 inet from 10.{a}.0.0/16 to any -> 192.0.2.{b}"));
            }
            _ => add(
                text,
                format_args!(
                    "rdr on em0 inet proto tcp from any to 192.0.2.{a} port 80 -> 10.0.0.{b} port 8080"
                ),
            ),
        }
    });
    front
        + &lines(len / 2, |text, numbers| {
            let [a, b] = [(); 2].map(|()| numbers.next(256));
            add(
                text,
                format_args!(
                    "pass in quick on em0 inet proto tcp from 10.{a}.{b}.0/24 to any port 80"
                ),
            );
        })
}
