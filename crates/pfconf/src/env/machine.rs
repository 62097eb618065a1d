//! All fixtures of a machine together.

use std::net::IpAddr;

use pfapi::facts::Facts;

use super::interfaces::interfaces;
use super::line::FixtureError;
use super::lists::{Hosts, Ids, Protocols, Services, Settings};
use crate::dialect::Dialect;
use crate::fingerprint::{FingerprintMistake, Fingerprints};

/// Texts of the fixtures; what a folder has not is empty.
#[derive(Clone, Debug, Default)]
pub struct Texts {
    /// `interfaces.txt`
    pub interfaces: String,
    /// `hosts.txt`
    pub hosts: String,
    /// `users.txt`
    pub users: String,
    /// `groups.txt`
    pub groups: String,
    /// `services.openbsd` or `services.freebsd`
    pub services: String,
    /// `protocols.openbsd` or `protocols.freebsd`
    pub protocols: String,
    /// `settings.txt`
    pub settings: String,
    /// `pf.os`
    pub fingerprints: String,
}

/// A machine as rules see it, without its files.
#[derive(Clone, Debug)]
pub struct Environment {
    /// Interfaces.
    pub facts: Facts,
    dialect: Dialect,
    hosts: Hosts,
    users: Ids,
    groups: Ids,
    services: Services,
    protocols: Protocols,
    settings: Settings,
    fingerprints: Fingerprints,
}

impl Environment {
    /// Reads the fixtures as the system of `dialect` has them. Wrong fingerprints are left out
    /// and come back in the order of their lines.
    ///
    /// # Errors
    /// The first line of any other file that is not understood.
    pub fn parse(
        texts: &Texts,
        dialect: Dialect,
    ) -> Result<(Self, Vec<FingerprintMistake>), FixtureError> {
        let system = dialect.word();
        let (fingerprints, mistakes) = Fingerprints::parse(&texts.fingerprints);
        let environment = Self {
            facts: interfaces("interfaces.txt", &texts.interfaces)?,
            dialect,
            hosts: Hosts::parse("hosts.txt", &texts.hosts)?,
            users: Ids::parse("users.txt", &texts.users)?,
            groups: Ids::parse("groups.txt", &texts.groups)?,
            services: Services::parse(&format!("services.{system}"), &texts.services)?,
            protocols: Protocols::parse(&format!("protocols.{system}"), &texts.protocols)?,
            settings: Settings::parse("settings.txt", &texts.settings, dialect)?,
            fingerprints,
        };
        Ok((environment, mistakes))
    }

    /// See [`crate::Sources::lookup_host`].
    #[must_use]
    pub fn lookup_host(&self, name: &str) -> Vec<IpAddr> {
        self.hosts.lookup(name, self.dialect)
    }

    /// See [`crate::Sources::service`].
    #[must_use]
    pub fn service(&self, name: &str, proto: Option<&str>) -> Option<u16> {
        self.services.port(name, proto)
    }

    /// See [`crate::Sources::service_name`].
    #[must_use]
    pub fn service_name(&self, port: u16, proto: &str) -> Option<String> {
        self.services.name(port, proto).map(str::to_owned)
    }

    /// See [`crate::Sources::protocol`].
    #[must_use]
    pub fn protocol(&self, name: &str) -> Option<u8> {
        self.protocols.number(name)
    }

    /// See [`crate::Sources::protocol_name`].
    #[must_use]
    pub fn protocol_name(&self, number: u8) -> Option<String> {
        self.protocols.name(number).map(str::to_owned)
    }

    /// See [`crate::Sources::user`].
    #[must_use]
    pub fn user(&self, name: &str) -> Option<u32> {
        self.users.id(name)
    }

    /// See [`crate::Sources::group`].
    #[must_use]
    pub fn group(&self, name: &str) -> Option<u32> {
        self.groups.id(name)
    }

    /// See [`crate::Sources::fingerprints`].
    #[must_use]
    pub const fn fingerprints(&self) -> &Fingerprints {
        &self.fingerprints
    }

    /// See [`crate::Sources::has_rtable`].
    #[must_use]
    pub fn has_rtable(&self, rtable: u32) -> bool {
        rtable <= self.settings.last_rtable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_given_is_nothing_there() {
        let (empty, mistakes) = Environment::parse(&Texts::default(), Dialect::OpenBsd).unwrap();
        assert!(mistakes.is_empty() && empty.facts.interfaces.is_empty());
        assert!(empty.lookup_host("localhost").is_empty());
        assert_eq!((empty.service("http", None), empty.protocol("tcp")), (None, None));
        assert_eq!((empty.user("root"), empty.group("wheel")), (None, None));
        assert!(empty.fingerprints().entries().is_empty());
        assert!(empty.has_rtable(0) && !empty.has_rtable(1));
    }

    #[test]
    fn mistakes_name_file_and_line_but_fingerprints_are_left_out() {
        let texts = Texts { services: "odd\n".to_owned(), ..Texts::default() };
        let error = Environment::parse(&texts, Dialect::FreeBsd).unwrap_err();
        assert_eq!((error.file.as_str(), error.line), ("services.freebsd", 1));
        let texts = Texts { fingerprints: "odd\n".to_owned(), ..Texts::default() };
        let (_, mistakes) = Environment::parse(&texts, Dialect::OpenBsd).unwrap();
        assert_eq!(mistakes.len(), 1);
    }
}
