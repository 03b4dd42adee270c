//! What this program can be besides a command line: the engine, a registry, a runtime, a doctor.
//!
//! The program itself decides on its role before this crate is asked; what arrives here was not decided there.

use std::ffi::OsString;

use crate::cli::{Invocation, help_text};
use crate::error::{CliResult, Failure};

pub(crate) async fn role(inv: &Invocation<'_>) -> CliResult<u8> {
    let hook = match inv.cmd.name {
        "daemon" => inv.cli.roles.daemon,
        "registry" => inv.cli.roles.registry,
        "runtime" => inv.cli.roles.runtime,
        "doctor" => inv.cli.roles.doctor,
        _ => None,
    };
    let asks_for_help = matches!(inv.operands.first().map(String::as_str), None | Some("--help" | "-h" | "help"));
    match hook {
        _ if asks_for_help && inv.cmd.name != "doctor" => {
            inv.cli.out(&help_text(inv.cmd, &inv.path))?;
            Ok(0)
        }
        Some(hook) => Ok(hook(inv.operands.iter().map(OsString::from).collect())),
        None => Err(Failure::unbuilt(inv.cmd.name)),
    }
}
