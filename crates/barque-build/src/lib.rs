//! The Dockerfile builder: bytes → syntax tree with spans → typed instructions → graph → parallel solver.
//!
//! * [`parse`] turns bytes into a [`parse::Dockerfile`]; [`shell`] expands variables; [`instructions`] gives
//!   every instruction a type; [`lint`] warns.
//! * [`graph`] keeps what the target needs and computes the image's configuration ([`config`]), pure.
//! * [`solve::build`] executes the graph in parallel over a [`worker::Worker`], with a [`cache::Cache`],
//!   reporting [`event::BuildEvent`]s which [`render`] turns into Docker's or BuildKit's text.
//! * [`context`] and [`ignore`] read build contexts in place; [`copy`] writes `COPY`'s files into a snapshot.
//!
//! This crate knows no store, runtime or network: the engine implements [`worker::Worker`].
#![forbid(unsafe_code)]

pub mod cache;
pub mod config;
pub mod context;
pub(crate) mod copy;
pub mod event;
pub mod git;
pub mod graph;
pub mod ignore;
pub mod instructions;
pub mod lint;
pub mod options;
pub mod parse;
pub mod render;
pub mod shell;
pub mod solve;
pub mod span;
mod suggest;
mod why;
pub mod worker;

pub use solve::{BuildFailure, BuildOutcome, FailedStep, build};
