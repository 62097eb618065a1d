//! A machine described in text files: what rules may refer to, fixed for tests and for checks of
//! rulesets that run elsewhere.
//!
//! [`Environment::parse`] reads the texts; nothing here opens a file. Lists of the system, such
//! as /etc/services, have the same form and are read without errors by [`Services::lenient`] and
//! [`Protocols::lenient`].

mod interfaces;
mod line;
mod lists;
mod machine;

pub use interfaces::interfaces;
pub use line::FixtureError;
pub use lists::{Hosts, Ids, Protocols, Services, Settings};
pub use machine::{Environment, Texts};
