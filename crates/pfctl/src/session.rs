//! One call of the classic face: connection, then the actions in their fixed order.
//!
//! Source: OpenBSD sbin/pfctl/pfctl.c `main`: disable, show, clear counters, flush, kill, tables,
//! load, enable, whatever the order of the flags. So `-F rules -f file -e` works in one call.

use pfapi::control::{FailureKind, Request, Response};
use pfapi::facts::Facts;

use crate::act;
use crate::client::{Client, ClientError};
use crate::console::Console;
use crate::error::Error;
use crate::exit::Exit;
use crate::flags::classic::{Classic, Names};
use crate::flags::help::usage;
use crate::show::names::HostNames;

/// What the actions share.
pub struct Session<'s, 'c> {
    /// What was asked for.
    pub flags: &'s Classic,
    /// Streams.
    pub console: &'s mut Console<'c>,
    /// Names for `-r`.
    pub names: HostNames,
    client: Result<Client, ClientError>,
}

impl Session<'_, '_> {
    /// The connection.
    ///
    /// # Errors
    /// The reason why there is none, which only `-n` gets by.
    pub fn client(&mut self) -> Result<&mut Client, Error> {
        match &mut self.client {
            Ok(client) => Ok(client),
            Err(error) => Err(std::mem::replace(error, ClientError::Closed).into()),
        }
    }

    /// Whether there is a connection; without one, `-n` checks syntax only.
    #[must_use]
    pub const fn is_connected(&self) -> bool {
        self.client.is_ok()
    }

    /// Sends a request whose answer is one frame.
    ///
    /// # Errors
    /// No connection, or a broken one. A refusal is an answer.
    pub fn call(&mut self, request: &Request) -> Result<Response, Error> {
        Ok(self.client()?.call(request)?)
    }

    /// Sends a request whose answer is a list; `each` gets the console, the names and every part.
    ///
    /// # Errors
    /// No connection, a broken one, a refusal, or what `each` returns.
    pub fn list(
        &mut self,
        request: &Request,
        what: &'static str,
        mut each: impl FnMut(&mut Console<'_>, &mut HostNames, Response) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.client()?;
        let Self { console, names, client: Ok(client), .. } = self else {
            return Err(Error::Unexpected(what));
        };
        match client.list(request, |response| each(console, names, response))? {
            Response::End => Ok(()),
            other => Err(Error::from_answer(other, what)),
        }
    }

    /// Interfaces of the daemon.
    ///
    /// # Errors
    /// As [`Session::call`], or a refusal.
    pub fn facts(&mut self) -> Result<Facts, Error> {
        match self.call(&Request::Facts)? {
            Response::Facts { facts } => Ok(facts),
            other => Err(Error::from_answer(other, "facts")),
        }
    }

    /// Writes a line of progress to standard error, unless `-q` was given.
    pub fn tell(&mut self, text: impl std::fmt::Display) {
        if !self.flags.quiet {
            self.console.note(text);
        }
    }

    /// Shows a failure and says how the run ends.
    pub fn fail(&mut self, error: &Error) -> Exit {
        if let Error::Output(error) = error
            && error.kind() == std::io::ErrorKind::BrokenPipe
        {
            return Exit::ClosedPipe;
        }
        self.console.warn(error);
        if let Some(hint) = error.hint() {
            self.console.warn(hint);
        }
        if matches!(error, Error::Usage(_)) {
            self.console.note_lines(&usage());
        }
        Exit::Failure
    }
}

/// Does everything that `flags` ask for.
pub fn run(flags: &Classic, console: &mut Console<'_>) -> Exit {
    let client = Client::connect(&flags.socket);
    let names = HostNames::new(flags.names == Names::Reverse);
    let mut session = Session { flags, console, names, client };
    if !flags.no_action
        && let Err(error) = session.client()
    {
        return session.fail(&error);
    }
    act_in_order(&mut session).unwrap_or_else(|error| session.fail(&error))
}

fn act_in_order(session: &mut Session<'_, '_>) -> Result<Exit, Error> {
    let flags = session.flags;
    let mut exit = Exit::Success;
    if flags.disable && !flags.no_action {
        exit = switch(session, false)?;
    }
    // With -n the other actions are left out too: it changes nothing and shows the file only.
    if !flags.no_action {
        if let Some(what) = flags.show {
            act::show::show(session, what)?;
        }
        if flags.clear_rule_counters {
            act::flush::clear_rule_counters(session)?;
        }
        if let Some(what) = flags.clear {
            act::flush::flush(session, what)?;
        }
        if !flags.kill.is_empty() {
            act::kill::kill(session)?;
        }
        if !flags.kill_sources.is_empty() {
            act::kill::kill_sources(session)?;
        }
    }
    if let Some((table, command)) = &flags.table {
        exit = act::table::run(session, table, *command)?;
    } else if let Some(file) = &flags.file
        && act::load::load(session, file)? == Exit::Failure
    {
        exit = Exit::Failure;
    }
    if flags.enable && !flags.no_action && switch(session, true)? == Exit::Failure {
        exit = Exit::Failure;
    }
    session.console.out.flush()?;
    Ok(exit)
}

/// `-e` and `-d`.
fn switch(session: &mut Session<'_, '_>, enable: bool) -> Result<Exit, Error> {
    let request = if enable { Request::Enable } else { Request::Disable };
    match session.call(&request)? {
        Response::Done => {
            session.tell(if enable { "pf enabled" } else { "pf disabled" });
            Ok(Exit::Success)
        }
        Response::Failed { kind: FailureKind::Unchanged, .. } => {
            session.console.warn(if enable { "pf already enabled" } else { "pf not enabled" });
            Ok(Exit::Failure)
        }
        other => Err(Error::from_answer(other, "enable")),
    }
}
