//! Files → [`Project`](project::Project), without touching the world but to read.
//!
//! text → [`yaml`] tree with spans → [`interp`] → [`canon`] (long forms, checked against [`schema`]) → [`load`]
//! (`include`, `extends`, [`merge`]) → [`normalize`] → [`check`] → [`project`] (profiles, selection, env files, types).

pub mod canon;
mod canon_maps;
pub mod canon_short;
pub mod check;
pub mod diag;
pub mod dotenv;
pub mod emit;
pub mod explain;
pub mod gojson;
pub mod hash;
pub mod interp;
pub mod load;
pub mod merge;
pub mod model;
pub mod node;
pub mod normalize;
pub mod paths;
pub mod project;
pub mod render;
pub mod scalar;
pub mod schema;
pub mod select;
pub mod units;
pub mod yaml;
