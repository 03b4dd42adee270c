//! Images: resolve, pull, push, load, save, import, commit, tag, remove.

pub mod types;
