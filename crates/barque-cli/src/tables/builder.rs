//! `barque builder …`.

use crate::cmdline::{Args, Cmd, Flag, Kind, flag};
use crate::commands::builder;
use crate::opts::check_filter;

pub(super) const BUILD: Cmd = Cmd::new("build", "[OPTIONS] PATH | URL | -", "Build an image from a Dockerfile", run!(builder::build))
    .spellings(&["image build", "build", "builder build"])
    .args(Args::Exactly(1))
    .flags(&[BUILD_FLAGS]);

const BUILD_FLAGS: &[Flag] = &[
    flag("add-host", Kind::List(check_extra_host), "Add a custom host-to-IP mapping (\"host:ip\")"),
    flag("build-arg", Kind::List(check_env), "Set build-time variables"),
    flag("cache-from", Kind::Strings, "Images to consider as cache sources"),
    flag("cgroup-parent", Kind::Str, "Set the parent cgroup for the \"RUN\" instructions during build"),
    flag("compress", Kind::Bool, "Compress the build context using gzip"),
    flag("cpu-period", Kind::Int, "Limit the CPU CFS (Completely Fair Scheduler) period"),
    flag("cpu-quota", Kind::Int, "Limit the CPU CFS (Completely Fair Scheduler) quota"),
    flag("cpu-shares", Kind::Int, "CPU shares (relative weight)").letter('c'),
    flag("cpuset-cpus", Kind::Str, "CPUs in which to allow execution (0-3, 0,1)"),
    flag("cpuset-mems", Kind::Str, "MEMs in which to allow execution (0-3, 0,1)"),
    flag("disable-content-trust", Kind::Bool, "Skip image verification").default("true"),
    flag("file", Kind::Str, "Name of the Dockerfile (Default is \"PATH/Dockerfile\")").letter('f'),
    flag("force-rm", Kind::Bool, "Always remove intermediate containers"),
    flag("iidfile", Kind::Str, "Write the image ID to the file"),
    flag("isolation", Kind::Str, "Container isolation technology"),
    flag("label", Kind::List(check_label), "Set metadata for an image"),
    flag("memory", Kind::Bytes, "Memory limit").letter('m'),
    flag("memory-swap", Kind::SwapBytes, "Swap limit equal to memory plus swap: -1 to enable unlimited swap"),
    flag("network", Kind::Str, "Set the networking mode for the RUN instructions during build").default("default"),
    flag("no-cache", Kind::Bool, "Do not use cache when building the image"),
    flag("platform", Kind::Str, "Set platform if server is multi-platform capable"),
    flag("pull", Kind::Bool, "Always attempt to pull a newer version of the image"),
    flag("quiet", Kind::Bool, "Suppress the build output and print image ID on success").letter('q'),
    flag("rm", Kind::Bool, "Remove intermediate containers after a successful build").default("true"),
    flag("security-opt", Kind::Strings, "Security options"),
    flag("shm-size", Kind::Bytes, "Size of \"/dev/shm\""),
    flag("squash", Kind::Bool, "Squash newly built layers into a single new layer"),
    flag("tag", Kind::List(check_tag), "Name and optionally a tag in the \"name:tag\" format").letter('t'),
    flag("target", Kind::Str, "Set the target build stage to build."),
    flag("ulimit", Kind::Custom("ulimit", check_ulimit), "Ulimit options").default("[]"),
];

pub(super) const PRUNE: Cmd = Cmd::new("prune", "", "Remove build cache", run!(builder::prune))
    .args(Args::None)
    .flags(&[PRUNE_FLAGS]);

const PRUNE_FLAGS: &[Flag] = &[
    flag("all", Kind::Bool, "Remove all unused build cache, not just dangling ones").letter('a'),
    flag("filter", Kind::Custom("filter", check_filter), "Provide filter values (e.g. \"until=24h\")"),
    flag("force", Kind::Bool, "Do not prompt for confirmation").letter('f'),
    flag("keep-storage", Kind::Bytes, "Amount of disk space to keep for cache"),
];

