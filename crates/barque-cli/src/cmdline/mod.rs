//! The command line as data: commands and flags are static tables, read by one parser and one help printer.
//!
//! The rules are those of the `docker` client (GNU long flags, bundled short flags, `=` values, flags after the
//! first operand only where the command takes no program of its own), so that every script's spelling works.
//! Tables are `const` data: starting the program builds nothing.

mod help;
mod parse;
mod spec;
mod validate;

pub(crate) use help::{help, usage_line, width_of_terminal};
pub(crate) use parse::{Flags, Outcome, check_args, parse};
pub(crate) use spec::{Args, Category, Cmd, Flag, Kind, flag};
pub(crate) use validate::parse_cpus;
