//! `barque image …`.

use super::{FORMAT_PLAIN, FORMAT_TABLE};
use crate::cmdline::{Args, Cmd, Flag, Kind, flag};
use crate::commands::image;
use crate::opts::{any, check_env, check_extra_host, check_filter, check_label, check_tag, check_ulimit};

pub(super) const BUILD: Cmd =
    Cmd::new("build", "[OPTIONS] PATH | URL | -", "Build an image from a Dockerfile", run!(image::build))
        .spellings(&["image build", "build", "builder build"])
        .args(Args::Exactly(1))
        .flags(&[BUILD_FLAGS, BUILDX_FLAGS]);

/// The same under `buildx`.
pub(super) const BUILDX_BUILD: Cmd = BUILD.aliases(&["b"]);

/// What Docker's Buildx adds.
const BUILDX_FLAGS: &[Flag] = &[
    flag(
        "allow",
        Kind::List(any),
        "Allow extra privileged entitlement (e.g., \"network.host\", \"security.insecure\")",
    ),
    flag("annotation", Kind::List(any), "Add annotation to the image"),
    flag("attest", Kind::List(any), "Attestation parameters (format: \"type=sbom,generator=image\")"),
    flag("build-context", Kind::List(any), "Additional build contexts (e.g., name=path)"),
    flag("builder", Kind::Str, "Override the configured builder instance"),
    flag(
        "cache-to",
        Kind::List(any),
        "Cache export destinations (e.g., \"user/app:cache\", \"type=local,dest=path/to/dir\")",
    ),
    flag("call", Kind::Str, "Set method for evaluating build (\"check\", \"outline\", \"targets\")").default("build"),
    flag("check", Kind::Bool, "Shorthand for \"--call=check\""),
    flag("load", Kind::Bool, "Shorthand for \"--output=type=docker\""),
    flag("debug", Kind::Bool, "Open a shell in the step that fails"),
    flag("why", Kind::Bool, "Say of every step that runs why its cache did not hold"),
    flag("metadata-file", Kind::Str, "Write build result metadata to a file"),
    flag("no-cache-filter", Kind::List(any), "Do not cache specified stages"),
    flag("output", Kind::List(any), "Output destination (format: \"type=local,dest=path\")").letter('o'),
    flag(
        "progress",
        Kind::Str,
        "Set type of progress output (\"auto\", \"none\", \"plain\", \"quiet\", \"rawjson\", \"tty\")",
    )
    .default("auto"),
    flag("provenance", Kind::Str, "Shorthand for \"--attest=type=provenance\""),
    flag("push", Kind::Bool, "Shorthand for \"--output=type=registry\" after the build"),
    flag("sbom", Kind::Str, "Shorthand for \"--attest=type=sbom\""),
    flag("secret", Kind::List(any), "Secret to expose to the build (format: \"id=mysecret[,src=/local/secret]\")"),
    flag("ssh", Kind::List(any), "SSH agent socket or keys to expose to the build"),
];

const BUILD_FLAGS: &[Flag] = &[
    flag("add-host", Kind::List(check_extra_host), "Add a custom host-to-IP mapping (\"host:ip\")"),
    flag("build-arg", Kind::List(check_env), "Set build-time variables"),
    flag("cache-from", Kind::List(any), "Images to consider as cache sources"),
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

pub(super) const HISTORY: Cmd =
    Cmd::new("history", "[OPTIONS] IMAGE", "Show the history of an image", run!(image::history))
        .spellings(&["image history", "history"])
        .args(Args::Exactly(1))
        .flags(&[HISTORY_FLAGS]);

const HISTORY_FLAGS: &[Flag] = &[
    flag("format", Kind::Str, FORMAT_TABLE),
    flag("human", Kind::Bool, "Print sizes and dates in human readable format").letter('H').default("true"),
    flag("no-trunc", Kind::Bool, "Don't truncate output"),
    flag(
        "platform",
        Kind::Str,
        "Show history for the given platform. Formatted as \"os[/arch[/variant]]\" (e.g., \"linux/amd64\")",
    )
    .since("1.48"),
    flag("quiet", Kind::Bool, "Only show image IDs").letter('q'),
];

pub(super) const IMPORT: Cmd = Cmd::new(
    "import",
    "[OPTIONS] file|URL|- [REPOSITORY[:TAG]]",
    "Import the contents from a tarball to create a filesystem image",
    run!(image::import),
)
.spellings(&["image import", "import"])
.args(Args::AtLeast(1))
.flags(&[IMPORT_FLAGS]);

const IMPORT_FLAGS: &[Flag] = &[
    flag("change", Kind::List(any), "Apply Dockerfile instruction to the created image").letter('c'),
    flag("message", Kind::Str, "Set commit message for imported image").letter('m'),
    flag("platform", Kind::Str, "Set platform if server is multi-platform capable"),
];

pub(super) const INSPECT: Cmd = Cmd::new(
    "inspect",
    "[OPTIONS] IMAGE [IMAGE...]",
    "Display detailed information on one or more images",
    run!(image::inspect),
)
.args(Args::AtLeast(1))
.flags(&[INSPECT_FLAGS]);

const INSPECT_FLAGS: &[Flag] = &[
    flag("format", Kind::Str, FORMAT_PLAIN).letter('f'),
    flag("platform", Kind::Str, "Inspect a specific platform of the multi-platform image.\nIf the image or the server is not multi-platform capable, the command will error out if the platform does not match.\n'os[/arch[/variant]]': Explicit platform (eg. linux/amd64)").since("1.49"),
];

pub(super) const LOAD: Cmd =
    Cmd::new("load", "[OPTIONS]", "Load an image from a tar archive or STDIN", run!(image::load))
        .spellings(&["image load", "load"])
        .args(Args::None)
        .flags(&[LOAD_FLAGS]);

const LOAD_FLAGS: &[Flag] = &[
    flag("input", Kind::Str, "Read from tar archive file, instead of STDIN").letter('i'),
    flag(
        "platform",
        Kind::Str,
        "Load only the given platform variant. Formatted as \"os[/arch[/variant]]\" (e.g., \"linux/amd64\")",
    )
    .since("1.48"),
    flag("quiet", Kind::Bool, "Suppress the load output").letter('q'),
];

pub(super) const LS: Cmd = Cmd::new("ls", "[OPTIONS] [REPOSITORY[:TAG]]", "List images", run!(image::ls))
    .spellings(&["image ls", "image list", "images"])
    .aliases(&["list"])
    .args(Args::AtMost(1))
    .flags(&[LS_FLAGS]);

const LS_FLAGS: &[Flag] = &[
    flag("all", Kind::Bool, "Show all images (default hides intermediate images)").letter('a'),
    flag("digests", Kind::Bool, "Show digests"),
    flag("filter", Kind::Custom("filter", check_filter), "Filter output based on conditions provided").letter('f'),
    flag("format", Kind::Str, FORMAT_TABLE),
    flag("no-trunc", Kind::Bool, "Don't truncate output"),
    flag("quiet", Kind::Bool, "Only show image IDs").letter('q'),
    flag("tree", Kind::Bool, "List multi-platform images as a tree (EXPERIMENTAL)").since("1.47"),
];

pub(super) const PRUNE: Cmd =
    Cmd::new("prune", "[OPTIONS]", "Remove unused images", run!(image::prune)).args(Args::None).flags(&[PRUNE_FLAGS]);

const PRUNE_FLAGS: &[Flag] = &[
    flag("dry-run", Kind::Bool, "Only print what would be removed"),
    flag("all", Kind::Bool, "Remove all unused images, not just dangling ones").letter('a'),
    flag("filter", Kind::Custom("filter", check_filter), "Provide filter values (e.g. \"until=<timestamp>\")"),
    flag("force", Kind::Bool, "Do not prompt for confirmation").letter('f'),
];

pub(super) const PULL: Cmd =
    Cmd::new("pull", "[OPTIONS] NAME[:TAG|@DIGEST]", "Download an image from a registry", run!(image::pull))
        .spellings(&["image pull", "pull"])
        .args(Args::Exactly(1))
        .flags(&[PULL_FLAGS]);

const PULL_FLAGS: &[Flag] = &[
    flag("all-tags", Kind::Bool, "Download all tagged images in the repository").letter('a'),
    flag("disable-content-trust", Kind::Bool, "Skip image verification").default("true"),
    flag("platform", Kind::Str, "Set platform if server is multi-platform capable"),
    flag("quiet", Kind::Bool, "Suppress verbose output").letter('q'),
];

pub(super) const PUSH: Cmd =
    Cmd::new("push", "[OPTIONS] NAME[:TAG]", "Upload an image to a registry", run!(image::push))
        .spellings(&["image push", "push"])
        .args(Args::Exactly(1))
        .flags(&[PUSH_FLAGS]);

const PUSH_FLAGS: &[Flag] = &[
    flag("all-tags", Kind::Bool, "Push all tags of an image to the repository").letter('a'),
    flag("disable-content-trust", Kind::Bool, "Skip image signing").default("true"),
    flag("platform", Kind::Str, "Push a platform-specific manifest as a single-platform image to the registry.\nImage index won't be pushed, meaning that other manifests, including attestations won't be preserved.\n'os[/arch[/variant]]': Explicit platform (eg. linux/amd64)").since("1.46"),
    flag("quiet", Kind::Bool, "Suppress verbose output").letter('q'),
];

pub(super) const RM: Cmd = Cmd::new("rm", "[OPTIONS] IMAGE [IMAGE...]", "Remove one or more images", run!(image::rm))
    .spellings(&["image rm", "image remove", "rmi"])
    .aliases(&["remove"])
    .args(Args::AtLeast(1))
    .flags(&[RM_FLAGS]);

const RM_FLAGS: &[Flag] = &[
    flag("force", Kind::Bool, "Force removal of the image").letter('f'),
    flag("no-prune", Kind::Bool, "Do not delete untagged parents"),
    flag(
        "platform",
        Kind::Strings,
        "Remove only the given platform variant. Formatted as \"os[/arch[/variant]]\" (e.g., \"linux/amd64\")",
    )
    .since("1.50"),
];

pub(super) const SAVE: Cmd = Cmd::new(
    "save",
    "[OPTIONS] IMAGE [IMAGE...]",
    "Save one or more images to a tar archive (streamed to STDOUT by default)",
    run!(image::save),
)
.spellings(&["image save", "save"])
.args(Args::AtLeast(1))
.flags(&[SAVE_FLAGS]);

const SAVE_FLAGS: &[Flag] = &[
    flag("output", Kind::Str, "Write to a file, instead of STDOUT").letter('o'),
    flag(
        "platform",
        Kind::Str,
        "Save only the given platform variant. Formatted as \"os[/arch[/variant]]\" (e.g., \"linux/amd64\")",
    )
    .since("1.48"),
];

pub(super) const TAG: Cmd = Cmd::new(
    "tag",
    "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
    "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE",
    run!(image::tag),
)
.spellings(&["image tag", "tag"])
.args(Args::Exactly(2))
.flags_first();
