//! The engine's durable state: rows in SQLite, blobs and layers as plain files, snapshots, leases, collection.
//!
//! [`Store`] is the handle: cheap to clone, `Send + Sync`, synchronous (call it from a blocking pool).
//!
//! | part | what |
//! | --- | --- |
//! | [`db`] | rows and queries: [`Read`], [`Tx`], [`Container`], [`Network`], [`Volume`], [`Image`], … |
//! | [`content`] | blobs by digest: [`Ingest`] writes one, resumes it, verifies it |
//! | [`layer`] | [`LayerWriter`] unpacks a layer while it arrives; diff, changes, commit, lazily made blobs |
//! | [`snapshot`] | writable layers of containers and build steps |
//! | [`image`] | put, resolve, tag, remove with Docker's semantics, history, prune |
//! | [`archive`] | `load`, `save`, `import` |
//! | [`tree`] | trees as tar streams and back, copies of trees, all confined to a root |
//! | [`gc`], [`usage`] | collection of what nothing refers to; disk usage by kind |
//!
//! On disk, below the data root:
//!
//! ```text
//! lock                          flock(2): one engine per data root
//! barque.db                     SQLite, WAL
//! blobs/sha256/ab/ab…           complete, verified blobs
//! ingest/<key>                  blobs being written
//! layers/<chain id>/diff        unpacked layers, in overlayfs form, each relative to its parent
//! snapshots/<id>/{upper,work}   writable layers
//! tmp/                          layers being unpacked; emptied on open
//! trash/                        directories being deleted; emptied in the background
//! ```
#![forbid(unsafe_code)]

pub mod archive;
pub mod content;
pub mod db;
mod error;
pub mod gc;
pub mod image;
mod janitor;
pub mod layer;
pub mod lease;
mod recover;
#[cfg(test)]
mod recover_tests;
mod reserve;
pub mod snapshot;
mod store;
pub mod tar;
#[cfg(test)]
mod testing;
pub mod tree;
pub mod usage;
#[cfg(test)]
mod usage_tests;

pub use archive::{Archive, ImportedRoot, LoadEvent, LoadedImage, ReadAt, SaveImage};
pub use content::{Ingest, IngestSpec};
pub use db::{
    Blob, CacheEntry, Container, Endpoint, Image, ImageLayer, Layer, LayerBlob, MacAddr, Manifest, Network, Read,
    Snapshot, Tx, Volume, VolumeUse,
};
pub use gc::Collected;
pub use image::{Deletion, History, NewImage, PutImage, Removal, RemoveImage, Resolved};
pub use layer::changes::{Change, ChangeKind};
pub use layer::{AppliedLayer, CommitMode, Compression, DiffOptions, DiffSummary, LayerSource, LayerWriter};
pub use lease::Lease;
pub use snapshot::SnapshotDirs;
pub use store::{Limits, Recovery, Store, StoreOptions};
pub use tree::{CopyOptions, TarTreeOptions, TreeSummary, UntarOptions};
pub use usage::{CacheUsage, DiskUsage, Gone, directory_size};

pub use barque_sys::rootdir::RootDir;
