//! Shared vocabulary: ids, digests, references, platforms, errors, sizes, durations, times, signals, id
//! mappings.
//!
//! Nothing here touches the world except [`Id::random`] (kernel randomness) and [`time::Timestamp::now`].
#![forbid(unsafe_code)]

pub mod csv;
pub mod digest;
pub mod duration;
pub mod error;
pub mod id;
pub mod idmap;
pub mod path;
pub mod platform;
pub mod reference;
pub mod signal;
pub mod size;
pub mod strconv;
pub mod time;

pub use digest::{ChainId, DiffId, Digest, Hasher, ImageId};
pub use error::{Context, Error, ErrorKind, Result, plain};
pub use id::Id;
pub use idmap::{IdMap, IdRange};
pub use platform::Platform;
pub use reference::Reference;
pub use signal::Signal;
pub use time::Timestamp;
