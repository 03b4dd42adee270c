//! `POST /build` and the build cache.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::filters::Filters;
use crate::json;
use crate::query::JsonParam;

crate::query! {
    /// Query of `POST /build`.
    pub struct BuildQuery {
        /// Path of the Dockerfile in the context.
        dockerfile: String => "dockerfile",
        tags: Vec<String> => "t",
        /// Each may name several, comma-separated.
        extra_hosts: Vec<String> => "extrahosts",
        /// A git repository or URL instead of a body; `client-session` for BuildKit.
        remote: String => "remote",
        quiet: bool => "q",
        no_cache: bool => "nocache",
        cache_from: JsonParam<Vec<String>> => "cachefrom",
        pull: String => "pull",
        /// Default true.
        rm: Option<bool> => "rm",
        force_rm: bool => "forcerm",
        memory: i64 => "memory",
        memory_swap: i64 => "memswap",
        cpu_shares: i64 => "cpushares",
        cpuset_cpus: String => "cpusetcpus",
        cpuset_mems: String => "cpusetmems",
        cpu_period: i64 => "cpuperiod",
        cpu_quota: i64 => "cpuquota",
        cgroup_parent: String => "cgroupparent",
        /// `null` takes the value from the environment of the daemon: unset.
        build_args: JsonParam<BTreeMap<String, Option<String>>> => "buildargs",
        shm_size: i64 => "shmsize",
        squash: bool => "squash",
        labels: JsonParam<BTreeMap<String, String>> => "labels",
        network_mode: String => "networkmode",
        platform: String => "platform",
        target: String => "target",
        /// BuildKit's exporters, JSON.
        outputs: String => "outputs",
        ulimits: JsonParam<Vec<crate::container::Ulimit>> => "ulimits",
        security_opt: JsonParam<Vec<String>> => "securityopt",
        isolation: String => "isolation",
        session: String => "session",
        build_id: String => "buildid",
        /// `1` is the classic builder, `2` BuildKit.
        version: String => "version",
    }
}

crate::query! {
    /// Query of `POST /build/prune`.
    pub struct BuildPruneQuery {
        /// Bytes to keep (before 1.48).
        keep_storage: i64 => "keep-storage",
        reserved_space: i64 => "reserved-space",
        max_used_space: i64 => "max-used-space",
        min_free_space: i64 => "min-free-space",
        all: bool => "all",
        filters: Filters => "filters",
        /// Answer what would be removed, and remove nothing. Barque only: Docker's engine removes all the same.
        dry_run: bool => "dry-run",
        /// Ids of containers and images that a dry run takes for gone already.
        without: Vec<String> => "without",
    }
}

crate::query! {
    /// Query of `POST /build/cancel`.
    pub struct BuildCancelQuery {
        id: String => "id",
    }
}

/// An entry of the build cache (definition `BuildCache`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct BuildCacheRecord {
    #[serde(rename = "ID")]
    pub id: String,
    // The space is Docker's.
    #[serde(rename = " Parents", skip_serializing_if = "json::no_items")]
    pub parents: Option<Vec<String>>,
    /// Before 1.42.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// `internal`, `frontend`, `source.local`, `source.git.checkout`, `exec.cachemount` or `regular`.
    #[serde(rename = "Type")]
    pub kind: String,
    pub description: String,
    pub in_use: bool,
    pub shared: bool,
    /// Bytes.
    pub size: i64,
    /// RFC 3339.
    pub created_at: String,
    /// RFC 3339.
    pub last_used_at: Option<String>,
    pub usage_count: i64,
}

/// Reply of `POST /build/prune`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct BuildPruned {
    pub caches_deleted: Option<Vec<String>>,
    /// Bytes.
    pub space_reclaimed: u64,
}

/// `aux` of a build that made an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BuildResult {
    #[serde(rename = "ID")]
    pub id: String,
}
