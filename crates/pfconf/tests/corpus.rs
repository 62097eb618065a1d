//! Conformance to reference data outside the repository, where that is at hand.
//!
//! Only cases whose every statement is within what this version supports are compared; the
//! others are counted. `PF_CORPUS` names the folder when it is not beside the repository.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;

use pfapi::facts::{Facts, InterfaceAddress, InterfaceFacts};
use pfconf::{BuiltinSources, CompileOptions, Input, Sources, compile};

mod common;
use common::root;

/// `interfaces.txt`, `hosts.txt` and `services.*` of the machine of the reference data.
struct Machine {
    facts: Facts,
    hosts: Vec<(IpAddr, String)>,
    services: Vec<(String, u16)>,
}

impl Machine {
    fn read(folder: &Path) -> Self {
        let text = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_default();
        let words = |line: &str| -> Vec<String> {
            let line = line.split('#').next().unwrap_or_default();
            line.split_whitespace().map(str::to_owned).collect()
        };
        let mut machine = Self { facts: Facts::default(), hosts: Vec::new(), services: Vec::new() };
        for line in text("interfaces.txt").lines() {
            let line = words(line);
            let Some(name) = line.first() else { continue };
            let value = |key: &str| {
                let at = line.iter().position(|word| word == key)?;
                line.get(at + 1).map(String::as_str)
            };
            let split = |list: Option<&str>| -> Vec<String> {
                list.unwrap_or_default().split(',').map(str::to_owned).collect()
            };
            let addresses = line.windows(2).filter(|pair| pair[0].starts_with("inet"));
            let addresses = addresses.filter_map(|pair| {
                let (addr, len) = pair[1].split_once('/')?;
                Some(InterfaceAddress { addr: addr.parse().ok()?, prefix_len: len.parse().ok()? })
            });
            machine.facts.interfaces.push(InterfaceFacts {
                name: name.clone(),
                groups: split(value("groups")),
                addresses: addresses.collect(),
                mtu: 1500,
                loopback: split(value("flags")).iter().any(|flag| flag == "LOOPBACK"),
            });
        }
        for line in text("hosts.txt").lines() {
            let line = words(line);
            let Some(addr) = line.first().and_then(|word| word.parse().ok()) else { continue };
            machine.hosts.extend(line[1..].iter().map(|name| (addr, name.clone())));
        }
        for line in text("services.openbsd").lines() {
            let line = words(line);
            let Some(port) = line.get(1).and_then(|word| word.split('/').next()?.parse().ok())
            else {
                continue;
            };
            machine.services.push((line[0].clone(), port));
            machine.services.extend(line.iter().skip(2).map(|name| (name.clone(), port)));
        }
        machine
    }
}

impl Sources for Machine {
    fn read(&self, path: &str) -> io::Result<String> {
        if path == "/dev/null" { Ok(String::new()) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    fn lookup_host(&self, name: &str) -> Vec<IpAddr> {
        self.hosts.iter().filter(|(_, known)| known == name).map(|&(addr, _)| addr).collect()
    }

    fn service(&self, name: &str, _proto: Option<&str>) -> Option<u16> {
        self.services.iter().find(|(known, _)| known == name).map(|&(_, port)| port)
    }

    fn protocol(&self, name: &str) -> Option<u8> {
        BuiltinSources.protocol(name)
    }
}

#[test]
fn reference_data_lists_the_same() {
    let beside = || root().join("../shared/corpus");
    let data = std::env::var_os("PF_CORPUS").map_or_else(beside, Into::into).join("openbsd");
    if !data.exists() {
        println!("skipped: no reference data beside the repository");
        return;
    }
    let machine = Machine::read(&data.join("env"));
    let (mut inside, mut same, mut outside) = (0, 0, 0);
    for folder in ["pf", "pfail"] {
        let mut files: Vec<_> =
            fs::read_dir(data.join(folder)).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        for path in files.iter().filter(|path| path.extension().is_some_and(|e| e == "in")) {
            let text = fs::read_to_string(path).unwrap();
            let wanted = fs::read_to_string(path.with_extension("ok")).unwrap_or_default();
            let options = CompileOptions {
                facts: &machine.facts,
                sources: &machine,
                defines: &[],
                numeric_only: false,
            };
            let compiled = compile(&Input { name: "stdin", text: &text }, &options);
            if compiled.diagnostics.iter().any(|found| found.code() == "PF0002") {
                outside += 1;
                continue;
            }
            let messages = compiled.diagnostics.iter().map(pfconf::Diagnostic::classic);
            let got: String = messages.chain(compiled.listing).map(|line| line + "\n").collect();
            inside += 1;
            if got == wanted {
                same += 1;
            } else {
                println!("{}:\n--- wanted\n{wanted}--- got\n{got}", path.display());
            }
        }
    }
    println!("{same} of {inside} cases match; {outside} more use what is not supported yet");
    assert_eq!(same, inside);
}
