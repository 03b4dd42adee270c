//! Compose: files → project → plan → calls of the Docker Engine API.
//!
//! - [`file`] reads Compose files into a typed project and touches the world only to read.
//! - [`plan`] compares the project with what the engine has and names the steps, each with its reasons; pure.
//! - [`apply`] carries steps out over `barque-client`, with any engine that speaks the Docker Engine API.
//! - [`cli`] is the command line, flag for flag that of Docker Compose v2; [`cli::run`] is its entry.
//!
//! # Living beside Docker Compose
//! Names and labels are those of Docker Compose v2, so that either tool sees the other's projects. The
//! `com.docker.compose.config-hash` written is that of Docker Compose 2.40 ([`file::hash::Form::WRITTEN`]), or the one
//! that the project's containers have; all versions from 2.26 on are understood. One label is ours:
//! [`plan::labels::CONFIG`] holds the configuration the hash was taken over, so that `plan` can name the fields that
//! changed.
//!
//! # Where it differs, on purpose
//! - A volume may have a name of one letter.
//! - A one-shot that ended well, and whose end others wait for, is not run again by `up`.
//! - Secrets and configs from files honour `uid`, `gid` and `mode`: they are copied in instead of mounted.
//! - `down -v` also removes anonymous volumes that were handed on when a container was made again.
//! - `logs` without `-f` merges the containers' lines by time.
//! - A volume whose options changed is kept, with a warning; nothing asks whether to drop its data.
#![forbid(unsafe_code)]

pub mod apply;
pub mod cli;
pub mod file;
pub mod plan;
