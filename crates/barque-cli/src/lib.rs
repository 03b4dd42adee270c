//! The command line of Barque.
#![forbid(unsafe_code)]
#![allow(dead_code)]

mod cli;
mod cmdline;
mod error;
mod opts;
mod output;
mod template;
