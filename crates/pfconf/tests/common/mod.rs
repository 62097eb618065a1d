//! What the test files share: a machine with known interfaces, names and table files.
#![allow(dead_code, reason = "each test file uses a part")]

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use pfapi::facts::{Facts, InterfaceAddress, InterfaceFacts, InterfaceFlag, InterfaceFlags};
use pfconf::{
    BuiltinSources, CompileOptions, Compiled, Dialect, Fingerprints, Input, Level, Listing,
    Optimization, Sources, compile,
};

/// The repository's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// An interface with addresses such as `10.77.1.1/24`.
pub fn interface(name: &str, group: &str, addresses: &[&str]) -> InterfaceFacts {
    let address = |text: &&str| {
        let (addr, len) = text.split_once('/').unwrap();
        InterfaceAddress::new(addr.parse().unwrap(), len.parse().unwrap())
    };
    let kind = if group == "lo" { InterfaceFlag::Loopback } else { InterfaceFlag::Broadcast };
    InterfaceFacts {
        groups: vec![group.to_owned()],
        addresses: addresses.iter().map(address).collect(),
        flags: InterfaceFlags::from_iter([InterfaceFlag::Up, kind]),
        ..InterfaceFacts::new(name)
    }
}

/// The router of the golden files.
pub fn router() -> Facts {
    Facts {
        interfaces: vec![
            interface("lo", "lo", &["127.0.0.1/8", "::1/128"]),
            interface("tun0", "tun", &["10.77.1.1/24", "fd77:1::1/64", "fe80::1/64"]),
            interface("tun1", "tun", &["10.77.2.1/24", "fd77:2::1/64"]),
            interface("tun2", "tun", &["10.77.3.1/24", "fd77:3::1/64", "10.77.3.2/24"]),
            interface("tun9", "idle", &[]),
        ],
    }
}

/// The fingerprints of the golden files.
const FINGERPRINTS: &str = "5840:64:1:60:M*,S,T,N,W7:Linux:2.6::Linux 2.6\n";

/// Built-in names, one host name, and table files.
pub struct TestSources;

impl Sources for TestSources {
    fn read(&self, path: &str) -> io::Result<String> {
        match path {
            "/dev/null" => Ok(String::new()),
            "/etc/pf.included" => Ok("more = \"82\"\npass proto udp to port $more".into()),
            "/etc/pf.rules" => Ok("pass out quick\nblock label \"$nr\"\n".into()),
            "/etc/pf.nested" => {
                Ok("anchor \"inner\"\nload anchor \"inner\" from \"/etc/pf.inner\"\n".into())
            }
            "/etc/pf.inner" => Ok("pass out\n".into()),
            "/etc/pf.frames" => Ok("ether block\npass\n".into()),
            "/etc/pf.wrong" => Ok("pass in\nblock foo\npass out\n".into()),
            "/etc/pf.blocked" => {
                Ok("# known offenders\n192.0.2.0/24 !192.0.2.9 ; but not this one\n2001:db8::/32\n"
                    .into())
            }
            "/etc/pf.broken" => Ok("192.0.2.1\n192.0.2.300\n".into()),
            "/etc/pf.secret" => Err(io::ErrorKind::PermissionDenied.into()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn lookup_host(&self, name: &str) -> Vec<IpAddr> {
        match name {
            "www.example.com" => ["192.0.2.80", "192.0.2.81", "2001:db8::80"]
                .map(|text| text.parse().unwrap())
                .to_vec(),
            _ => Vec::new(),
        }
    }

    fn service(&self, name: &str, proto: Option<&str>) -> Option<u16> {
        BuiltinSources.service(name, proto)
    }

    fn protocol(&self, name: &str) -> Option<u8> {
        BuiltinSources.protocol(name)
    }

    fn user(&self, name: &str) -> Option<u32> {
        (name == "root").then_some(0)
    }

    fn group(&self, name: &str) -> Option<u32> {
        (name == "wheel").then_some(0)
    }

    fn fingerprints(&self) -> Option<&Fingerprints> {
        static KNOWN: LazyLock<Fingerprints> =
            LazyLock::new(|| Fingerprints::parse(FINGERPRINTS).0);
        Some(&KNOWN)
    }
}

/// The golden files of a kind, `parse` or `reject`, of both dialects.
pub fn golden_files(kind: &str) -> Vec<(Dialect, PathBuf)> {
    let folders = [
        (Dialect::OpenBsd, root().join("tests/golden").join(kind)),
        (Dialect::FreeBsd, root().join("tests/golden/freebsd").join(kind)),
    ];
    let mut files = Vec::new();
    for (dialect, folder) in folders {
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let texts = entries.filter(|path| path.extension().is_some_and(|ext| ext == "conf"));
        files.extend(texts.map(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            // A word in the name of a file counts more than its folder.
            let named = [Dialect::FreeBsd, Dialect::MacOs]
                .into_iter()
                .find(|dialect| name.contains(&format!("-{}-", dialect.word())));
            (named.unwrap_or(dialect), path)
        }));
    }
    files.sort_by(|left, right| left.1.cmp(&right.1));
    files
}

/// Compiles with the router of the golden files.
pub fn compile_text(text: &str) -> Compiled {
    compile_in(text, Dialect::OpenBsd)
}

/// The same in a dialect.
pub fn compile_in(text: &str, dialect: Dialect) -> Compiled {
    compile_with(text, dialect, Some(Level::None))
}

/// The same, optimized as asked for.
pub fn compile_with(text: &str, dialect: Dialect, optimize: Option<Level>) -> Compiled {
    let facts = router();
    let options = CompileOptions {
        facts: &facts,
        sources: &TestSources,
        defines: &[],
        numeric_only: false,
        dialect,
        listing: Listing::Rules,
        optimize: Optimization { level: optimize, ..Optimization::default() },
        parts: pfconf::Parts::ALL,
    };
    compile(&Input { name: "stdin", text }, &options)
}
