use super::*;

const GOOD: &str = r#"
ruleset = "/etc/pf.conf"
socket = "/run/pfd/pfd.sock"
workers = 0
[[interface]]
name = "tun0"
address = ["10.0.1.1/24", "fd00:1::1/64"]
peer = ["10.0.1.2/24", "fd00:1::2/64"]
netns = "client"
groups = ["lan"]
mtu = 1500
backend = "auto"
queues = 0
[[interface]]
name = "tun1"
address = ["10.0.2.1/24"]
[[route]]
to = "0.0.0.0/0"
dev = "tun1"
via = "10.0.2.2"
"#;

fn mistakes(text: &str) -> Vec<String> {
    parse(text).map_or_else(|list| list.iter().map(ToString::to_string).collect(), |_| Vec::new())
}

/// A file whose last lines are `lines`, which start in line 4.
fn with(lines: &str) -> Vec<String> {
    mistakes(&format!("[[interface]]\nname = \"tun0\"\naddress = [\"10.0.1.1/24\"]\n{lines}"))
}

#[test]
fn complete_file_is_read() {
    let config = parse(GOOD).unwrap();
    assert_eq!(config.interfaces.len(), 2);
    assert_eq!(config.interfaces[0].netns, Some("client".into()));
    assert_eq!(config.interfaces[1].mtu, MTU_DEFAULT);
    assert_eq!(config.routes[0].dev, IfIndex(1));
    assert_eq!(config.socket_read_only(), Path::new("/run/pfd/pfd-ro.sock"));
    let facts = config.facts();
    assert_eq!(facts.interfaces[0].groups, ["tun", "lan"]);
    assert_eq!(facts.interfaces[0].addresses[1].prefix_len, 64);
}

#[test]
fn defaults_need_only_an_interface() {
    let config = parse("[[interface]]\nname = \"tun0\"").unwrap();
    assert_eq!(config.ruleset, Path::new("/etc/pf.conf"));
    assert_eq!(config.socket, Path::new(pfapi::control::DEFAULT_SOCKET));
    assert_eq!(config.fail, Fail::Closed);
}

#[test]
fn example_of_the_package_is_valid() {
    let config = parse(include_str!("../../../../examples/pfd.toml")).unwrap();
    assert_eq!(config.interfaces.len(), 3);
}

#[test]
fn every_mistake_is_listed_in_order() {
    let text = "socket = 5\nport = 1\n[[interface]]\nname = \"tun0\"\nmtu = 1\ncolour = \"red\"\n";
    assert_eq!(
        mistakes(text),
        [
            "1: socket: expected a string, found integer; put it in quotes",
            "2: port: unknown key; the keys here are ruleset, socket, fail, user, workers, \
             pflog, metrics, cluster_secret_file, interface, route",
            "5: interface.mtu: 1 is outside 576 to 65535",
            "6: interface.colour: unknown key; the keys here are name, address, peer, netns, \
             groups, mtu, backend, queues",
        ]
    );
}

#[test]
fn keys_of_later_versions_are_refused() {
    let text = "state_file = \"/x\"\n[[interface]]\nname = \"tun0\"\n";
    assert_eq!(mistakes(text), ["1: state_file: not supported by this version; remove the line"]);
}

#[test]
fn metrics_and_secrets_have_places() {
    let interface = "[[interface]]\nname = \"tun0\"\naddress = [\"10.0.0.1/24\"]\n";
    let text =
        format!("metrics = \"[::1]:9617\"\ncluster_secret_file = \"/etc/pfd.key\"\n{interface}");
    let config = parse(&text).unwrap();
    assert_eq!(config.metrics, Some("[::1]:9617".parse().unwrap()));
    assert_eq!(config.cluster_secret_file, Some("/etc/pfd.key".into()));
    let text = format!("metrics = \"9617\"\ncluster_secret_file = \"key\"\n{interface}");
    assert_eq!(
        mistakes(&text),
        [
            "1: metrics: \"9617\" is no address with a port, such as 127.0.0.1:9617",
            "2: cluster_secret_file: \"key\" is no absolute path; begin it with /",
        ]
    );
}

#[test]
fn no_interface_is_a_mistake() {
    assert_eq!(
        mistakes("workers = 0\n"),
        ["1: interface: there is no interface; add a section [[interface]] with name and address"]
    );
}

#[test]
fn broken_toml_has_a_line() {
    let found = mistakes("workers = 0\nsocket = \n");
    assert!(found[0].starts_with("2: this is not TOML: "), "{found:?}");
}

#[test]
fn values_are_checked() {
    for (lines, want) in [
        ("mtu = 70000", "4: interface.mtu: 70000 is outside 576 to 65535"),
        ("mtu = -1", "4: interface.mtu: -1 is no number that fits here"),
        ("queues = 2", "4: interface.queues: 2 is not supported by this version; write 0 or 1"),
        (
            "backend = \"fast\"",
            "4: interface.backend: \"fast\" is none of \"auto\", \"offload\", \"plain\"",
        ),
        (
            "netns = \"a/b\"",
            "4: interface.netns: \"a/b\" is neither a name below /run/netns nor an absolute path",
        ),
        (
            "groups = [\"lan1\"]",
            "4: interface.groups: group \"lan1\" must not end in a digit, as interfaces do",
        ),
        (
            "peer = [\"10.0.1.1/24\"]",
            "4: interface.peer: 10.0.1.1 is the router's own address; give the other end another",
        ),
        (
            "peer = [\"10.0.9.1/24\"]",
            "4: interface.peer: 10.0.9.1 is in no network of this interface; choose one that is",
        ),
        (
            "peer = \"10.0.1.2/24\"",
            "4: interface.peer: expected a list, found string; write [\"…\"]",
        ),
        (
            "peer = [\"10.0.1.2\"]",
            "4: interface.peer: \"10.0.1.2\" lacks its prefix length; write it as 10.0.1.2/24",
        ),
        (
            "peer = [\"10.0.1.2/40\"]",
            "4: interface.peer: prefix length \"40\" is not a number from 0 to 32",
        ),
        (
            "peer = [\"10.0.1.255/24\"]",
            "4: interface.peer: 10.0.1.255 is the broadcast address of 10.0.1.0/24; choose another",
        ),
        (
            "[[interface]]\nname = \"tun0\"",
            "5: interface.name: \"tun0\" is used twice; choose another",
        ),
        ("[[interface]]\nmtu = 900", "4: interface.name: missing; add name = \"tun0\""),
        (
            "[[interface]]\nname = \"a b\"",
            "5: interface.name: \"a b\" must have 1 to 15 letters, digits, '_', '-' or '.'",
        ),
        (
            "[[interface]]\nname = \"self\"",
            "5: interface.name: \"self\" has a meaning of its own; choose another, such as tun0",
        ),
        (
            "[[interface]]\nname = \"lo\"",
            "5: interface.name: \"lo\" has a meaning of its own; choose another, such as tun0",
        ),
        (
            "[[interface]]\nname = \"x\"\naddress = [\"10.0.1.1/8\"]",
            "6: interface.address: 10.0.1.1 is already an address of tun0; remove one",
        ),
        (
            "[[interface]]\nname = \"x\"\naddress = [\"10.9.9.9/8\"]",
            "6: interface.address: 10.0.0.0/8 overlaps 10.0.1.0/24 of tun0; give each interface a \
             network of its own",
        ),
        (
            "[[interface]]\nname = \"x\"\nmtu = 1000\naddress = [\"fd00::1/64\"]",
            "6: interface.mtu: 1000 is below 1280, which IPv6 needs; raise it",
        ),
        (
            "[[interface]]\nname = \"x\"\naddress = [\"224.0.0.1/24\"]",
            "6: interface.address: 224.0.0.1 is no unicast address; choose one of a host",
        ),
        (
            "[[interface]]\nname = \"x\"\naddress = [\"192.0.2.0/24\"]",
            "6: interface.address: 192.0.2.0 is the network 192.0.2.0/24 itself; choose an address \
             in it",
        ),
    ] {
        assert_eq!(with(lines), [want], "{lines}");
    }
}

#[test]
fn routes_are_checked() {
    for (lines, want) in [
        ("to = \"0.0.0.0/0\"", "4: route.dev: missing; add dev = with the name of an interface"),
        ("dev = \"tun0\"", "4: route.to: missing; add to = \"0.0.0.0/0\""),
        (
            "to = \"0.0.0.0/0\"\ndev = \"tun7\"",
            "6: route.dev: there is no interface \"tun7\"; there are tun0",
        ),
        (
            "to = \"10.0.1.0/24\"\ndev = \"tun0\"",
            "5: route.to: 10.0.1.0/24 is already a network of tun0; remove one",
        ),
        (
            "to = \"10.0.1.77/24\"\ndev = \"tun0\"",
            "5: route.to: 10.0.1.77/24 has bits behind its prefix; write 10.0.1.0/24",
        ),
        (
            "to = \"0.0.0.0/0\"\ndev = \"tun0\"\nvia = \"192.0.2.1\"",
            "7: route.via: 192.0.2.1 cannot be reached: it is in no network of tun0; use one that \
             is",
        ),
        (
            "to = \"::/0\"\ndev = \"tun0\"\nvia = \"10.0.1.2\"",
            "7: route.via: 10.0.1.2 and ::/0 are of different families; use one family",
        ),
        (
            "to = \"0.0.0.0/0\"\ndev = \"tun0\"\nvia = \"10.0.1.1\"",
            "7: route.via: 10.0.1.1 is the router's own address; name the other end or remove the \
             key",
        ),
        (
            "to = \"10.9.0.0/16\"\ndev = \"tun0\"\n[[route]]\nto = \"10.9.0.0/16\"\ndev = \"tun0\"",
            "8: route.to: 10.9.0.0/16 is already routed to tun0; remove one",
        ),
        (
            "to = 5\ndev = \"tun0\"",
            "5: route.to: expected a string, found integer; put it in quotes",
        ),
    ] {
        assert_eq!(with(&format!("[[route]]\n{lines}")), [want], "{lines}");
    }
}

#[test]
fn paths_are_checked() {
    for (line, want) in [
        ("ruleset = \"pf.conf\"", "1: ruleset: \"pf.conf\" is no absolute path; begin it with /"),
        (
            "socket = \"/\"",
            "1: socket: the path names no file; write one such as /run/pfd/pfd.sock",
        ),
        ("fail = \"safe\"", "1: fail: \"safe\" is neither \"closed\" nor \"open\""),
        ("workers = 4", "1: workers: 4 is not supported by this version; write 0 or 1"),
        ("user = \"\"", "1: user: \"\" is no user name"),
    ] {
        let text = format!("{line}\n[[interface]]\nname = \"tun0\"\n");
        let found = mistakes(&text);
        assert_eq!(found[0], want);
    }
    let long = format!("socket = \"/{}\"\n[[interface]]\nname = \"tun0\"", "x".repeat(150));
    assert_eq!(mistakes(&long), ["1: socket: the path has 151 octets; a socket may have 104"]);
}

#[test]
fn sections_must_be_sections() {
    assert_eq!(
        mistakes("interface = 5")[0],
        "1: interface: expected a section; write [[interface]]"
    );
}

#[test]
fn unknown_device_lists_each_name_once() {
    let text = "[[interface]]\nname = \"tun0\"\naddress = [\"10.0.1.1/24\"]\n\
                [[interface]]\nname = \"tun0\"\n[[interface]]\nname = \"\"\n\
                [[route]]\nto = \"0.0.0.0/0\"\ndev = \"tun7\"";
    let route: Vec<_> =
        mistakes(text).into_iter().filter(|mistake| mistake.contains("route")).collect();
    assert_eq!(route, ["10: route.dev: there is no interface \"tun7\"; there are tun0"]);
}

#[test]
fn unreadable_files_say_why() {
    let failure =
        |kind: ErrorKind| ConfigError::Read { path: "x".into(), source: kind.into() }.to_string();
    assert_eq!(failure(ErrorKind::NotFound), "x: no such file; name another one with -c");
    assert_eq!(failure(ErrorKind::InvalidData), "x: this is no text file");
    assert_eq!(failure(ErrorKind::PermissionDenied), "x: permission denied");
}
