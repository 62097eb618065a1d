//! The program: standard streams and arguments of the process around `pfctl::run`.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::io::{self, BufWriter, IsTerminal};
use std::process::ExitCode;

use pfctl::Console;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let mut input = io::stdin().lock();
    let mut out = BufWriter::new(io::stdout().lock());
    let mut err = io::stderr().lock();
    let err_is_terminal = err.is_terminal();
    let mut console = Console { input: &mut input, out: &mut out, err: &mut err, err_is_terminal };
    pfctl::run(&args, &mut console).into()
}
