//! Tar streams: packing local files, unpacking into local directories, and the rules of `cp` and `.dockerignore`.

pub(crate) mod copy;
pub(crate) mod flatten;
pub(crate) mod ignore;
pub(crate) mod pack;
pub(crate) mod pipe;
pub(crate) mod unpack;
