//! Doing things from a namespace.

use std::fs;
use std::io;
use std::panic::resume_unwind;
use std::process::Command;
use std::thread;

use pf_load::lab::{Place, nsenter, program};
use pf_load::netns;

/// Where the relay's other end is: a client behind a bad line.
pub const FAR: Place = Place { namespace: "far", interface: "relay0", number: 1 };

/// Runs a function on a thread that has moved into a namespace.
///
/// # Errors
///
/// When there is no such namespace.
///
/// # Panics
///
/// When the function does.
pub fn at<T: Send>(
    place: Place,
    action: impl FnOnce() -> Result<T, String> + Send,
) -> Result<T, String> {
    thread::scope(|scope| {
        let there = scope.spawn(|| {
            netns::enter(place.namespace).map_err(|error| error.to_string())?;
            action()
        });
        there.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

/// Settings below /proc/sys/net of a namespace.
///
/// # Errors
///
/// When there is no such setting.
pub fn set(place: Place, settings: &[(&str, &str)]) -> Result<(), String> {
    at(place, || {
        settings.iter().try_for_each(|(name, value)| {
            let path = format!("/proc/sys/net/{name}");
            fs::write(&path, value).map_err(|error| format!("{path} = {value}: {error}"))
        })
    })
}

/// A setting below /proc/sys/net of a namespace.
///
/// # Errors
///
/// When there is no such setting.
pub fn get(place: Place, name: &str) -> Result<String, String> {
    at(place, || {
        let path = format!("/proc/sys/net/{name}");
        let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        Ok(text.trim().to_owned())
    })
}

/// A command in the namespace of a place.
#[must_use]
pub fn command(place: Place, name: &str) -> Command {
    nsenter(place.namespace, program(name).unwrap_or_else(|| name.into()))
}

/// Puts what an operation was about before the system's words.
pub fn named(what: &str) -> impl Fn(io::Error) -> String {
    move |error| format!("{what}: {error}")
}
