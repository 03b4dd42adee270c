//! What may stand in a Compose file: the facts of the Compose specification's JSON schema as tables of our own.
//!
//! One table serves validation, conversion to long forms, typed reading and printing: fields are listed in the order
//! Docker Compose prints them, because its configuration hash is taken over that order.

/// The type of a value.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Anything at all.
    Any,
    /// Text.
    Str,
    /// Text, or a number taken as text.
    StrNum,
    /// `true` or `false`, or the same as text.
    Bool,
    /// A whole number, or the same as text.
    Int,
    /// A number, or the same as text.
    Float,
    /// A size such as `64M`, or a number of bytes.
    Bytes,
    /// A duration such as `1m30s`.
    Duration,
    /// File permissions in octal.
    Mode,
    /// `all` or a number of devices.
    Count,
    /// A list of text.
    StrList,
    /// A list of text or numbers.
    StrNumList,
    /// Text or a list of text; becomes a list.
    StrOrList,
    /// `K: v` or `- K=v`; values may be missing (to be taken from the environment).
    Env,
    /// `K: v` or `- K=v`; a missing value is empty.
    Dict,
    /// `K: v` of text and numbers.
    Options,
    /// `K: v or [v, …]`.
    MultiOptions,
    /// A command line: null, text split like a shell's, or a list.
    Command,
    /// The test of a healthcheck: text (for the shell) or a list.
    HealthTest,
    /// `host:ip` pairs as list or mapping.
    ExtraHosts,
    /// `default` or `id=path` pairs.
    Ssh,
    /// Text or boolean, kept as text.
    StrBool,
    /// `external: true` or the old `external: {name: x}`.
    External,
    /// A number, or soft and hard.
    Ulimit,
    /// Text or a boolean given as text one of a set.
    Enum(&'static [&'static str]),
    /// A mapping of fixed keys.
    Obj(&'static Obj),
    /// A mapping of fixed keys, or text that stands for one of them.
    Short(&'static Obj, &'static str),
    /// A mapping of fixed keys, or null.
    Null(&'static Obj),
    /// A list.
    List(&'static Kind),
    /// A mapping of free keys.
    Map(&'static Kind),
    /// `depends_on`, service `networks`, service `models`: names as list, or a mapping.
    Names(&'static Kind),
    /// The ports of a service: short forms may stand for several.
    Ports(&'static Obj),
    /// A mount in short or long form.
    Mount(&'static Obj),
    /// A device in short or long form.
    Device(&'static Obj),
    /// `all` or a list of device requests.
    Gpus(&'static Kind),
    /// `env_file`: text, or a list of text and mappings.
    EnvFiles(&'static Obj),
}

/// A mapping of fixed keys.
#[derive(Debug)]
pub struct Obj {
    /// Its keys, in printing order.
    pub fields: &'static [Field],
    /// Keys that must be there after the merge.
    pub required: &'static [&'static str],
    /// True if `x-` keys may stand beside them.
    pub extensions: bool,
}

/// One key of an [`Obj`].
#[derive(Debug)]
pub struct Field {
    /// The key.
    pub key: &'static str,
    /// Its type.
    pub kind: Kind,
    /// When it is printed.
    pub keep: Keep,
}

/// When a field is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Unless it is zero, empty or missing.
    NonZero,
    /// Whenever it is set, even to zero.
    Set,
    /// In JSON always (as `{}` if missing), in YAML unless empty.
    Struct,
    /// Always: `null` in JSON if missing.
    Always,
}

impl Obj {
    /// The field of a key.
    pub fn field(&self, key: &str) -> Option<&'static Field> {
        self.fields.iter().find(|f| f.key == key)
    }
}

const fn f(key: &'static str, kind: Kind) -> Field {
    Field { key, kind, keep: Keep::NonZero }
}

/// A pointer field: printed when set.
const fn p(key: &'static str, kind: Kind) -> Field {
    Field { key, kind, keep: Keep::Set }
}

const fn obj(fields: &'static [Field]) -> Obj {
    Obj { fields, required: &[], extensions: true }
}

const fn strict(fields: &'static [Field]) -> Obj {
    Obj { fields, required: &[], extensions: false }
}

use Kind::{
    Any, Bool, Bytes, Command, Count, Device, Dict, Duration, Enum, Env, EnvFiles, External, ExtraHosts, Float, Gpus,
    HealthTest, Int, List, Map, Mode, Mount, MultiOptions, Names, Null, Options, Ports, Short, Ssh, Str, StrBool,
    StrList, StrNum, StrNumList, StrOrList, Ulimit,
};

/// The file as a whole.
pub static ROOT: Obj = obj(&[
    f("version", StrNum),
    f("name", Str),
    f("include", List(&Short(&INCLUDE, "path"))),
    f("services", Map(&Kind::Obj(&SERVICE))),
    f("networks", Map(&Null(&NETWORK))),
    f("volumes", Map(&Null(&VOLUME))),
    f("secrets", Map(&Kind::Obj(&SECRET))),
    f("configs", Map(&Kind::Obj(&CONFIG))),
    f("models", Map(&Kind::Obj(&MODEL))),
]);

static INCLUDE: Obj = strict(&[f("path", StrOrList), f("project_directory", Str), f("env_file", StrOrList)]);

/// A service.
pub static SERVICE: Obj = obj(&[
    f("profiles", StrList),
    f("annotations", Dict),
    p("attach", Bool),
    p("build", Short(&BUILD, "context")),
    p("develop", Null(&DEVELOP)),
    p("blkio_config", Kind::Obj(&BLKIO)),
    f("cap_add", StrList),
    f("cap_drop", StrList),
    f("cgroup_parent", Str),
    f("cgroup", Enum(&["host", "private"])),
    f("cpu_count", Int),
    f("cpu_percent", Float),
    f("cpu_period", Int),
    f("cpu_quota", Int),
    f("cpu_rt_period", Int),
    f("cpu_rt_runtime", Int),
    f("cpus", Float),
    f("cpuset", Str),
    f("cpu_shares", Int),
    Field { key: "command", kind: Command, keep: Keep::Always },
    f("configs", List(&Short(&FILE_MOUNT, "source"))),
    f("container_name", Str),
    p("credential_spec", Kind::Obj(&CREDENTIAL_SPEC)),
    f("depends_on", Names(&Kind::Obj(&DEPENDENCY))),
    p("deploy", Null(&DEPLOY)),
    f("device_cgroup_rules", StrList),
    f("devices", List(&Device(&DEVICE))),
    f("dns", StrOrList),
    f("dns_opt", StrList),
    f("dns_search", StrOrList),
    f("domainname", Str),
    Field { key: "entrypoint", kind: Command, keep: Keep::Always },
    p("provider", Kind::Obj(&PROVIDER)),
    f("environment", Env),
    f("env_file", EnvFiles(&ENV_FILE)),
    f("expose", StrNumList),
    p("extends", Short(&EXTENDS, "service")),
    f("external_links", StrList),
    f("extra_hosts", ExtraHosts),
    f("group_add", StrNumList),
    f("gpus", Gpus(&Kind::Obj(&DEVICE_REQUEST))),
    f("hostname", Str),
    p("healthcheck", Kind::Obj(&HEALTHCHECK)),
    f("image", Str),
    p("init", Bool),
    f("ipc", Str),
    f("isolation", Str),
    f("labels", Dict),
    f("label_file", StrOrList),
    f("links", StrList),
    p("logging", Kind::Obj(&LOGGING)),
    f("mem_limit", Bytes),
    f("mem_reservation", Bytes),
    f("memswap_limit", Bytes),
    f("mem_swappiness", Bytes),
    f("mac_address", Str),
    f("models", Names(&Null(&SERVICE_MODEL))),
    f("network_mode", Str),
    f("networks", Names(&Null(&SERVICE_NETWORK))),
    f("oom_kill_disable", Bool),
    f("oom_score_adj", Int),
    f("pid", Str),
    f("pids_limit", Int),
    f("platform", Str),
    f("ports", Ports(&PORT)),
    f("privileged", Bool),
    f("pull_policy", Str),
    f("pull_refresh_after", Str),
    f("read_only", Bool),
    f("restart", Str),
    f("runtime", Str),
    p("scale", Int),
    f("secrets", List(&Short(&FILE_MOUNT, "source"))),
    f("security_opt", StrList),
    f("shm_size", Bytes),
    f("stdin_open", Bool),
    p("stop_grace_period", Duration),
    f("stop_signal", Str),
    f("storage_opt", Options),
    f("sysctls", Dict),
    f("tmpfs", StrOrList),
    f("tty", Bool),
    f("ulimits", Map(&Ulimit)),
    f("use_api_socket", Bool),
    f("user", Str),
    f("userns_mode", Str),
    f("uts", Str),
    f("volumes", List(&Mount(&MOUNT))),
    f("volumes_from", StrList),
    f("working_dir", Str),
    f("pre_start", List(&Kind::Obj(&HOOK))),
    f("post_start", List(&Kind::Obj(&HOOK))),
    f("pre_stop", List(&Kind::Obj(&HOOK))),
]);

static BUILD: Obj = obj(&[
    f("context", Str),
    f("dockerfile", Str),
    f("dockerfile_inline", Str),
    f("entitlements", StrList),
    f("args", Env),
    f("provenance", StrBool),
    f("sbom", StrBool),
    f("ssh", Ssh),
    f("labels", Dict),
    f("cache_from", StrList),
    f("cache_to", StrList),
    f("no_cache", Bool),
    f("no_cache_filter", StrOrList),
    f("additional_contexts", Dict),
    f("pull", Bool),
    f("extra_hosts", ExtraHosts),
    f("isolation", Str),
    f("network", Str),
    f("target", Str),
    f("secrets", List(&Short(&FILE_MOUNT, "source"))),
    f("shm_size", Bytes),
    f("tags", StrList),
    f("ulimits", Map(&Ulimit)),
    f("platforms", StrList),
    f("privileged", Bool),
]);

static DEVELOP: Obj = obj(&[f("watch", List(&Kind::Obj(&WATCH)))]);
static WATCH: Obj = Obj {
    fields: &[
        f("path", Str),
        f("action", Enum(&["rebuild", "sync", "restart", "sync+restart", "sync+exec"])),
        f("target", Str),
        Field { key: "exec", kind: Kind::Obj(&HOOK), keep: Keep::Struct },
        f("include", StrOrList),
        f("ignore", StrOrList),
        f("initial_sync", Bool),
    ],
    required: &["path", "action"],
    extensions: true,
};

static BLKIO: Obj = strict(&[
    f("weight", Int),
    f("weight_device", List(&Kind::Obj(&BLKIO_WEIGHT))),
    f("device_read_bps", List(&Kind::Obj(&BLKIO_RATE))),
    f("device_read_iops", List(&Kind::Obj(&BLKIO_RATE))),
    f("device_write_bps", List(&Kind::Obj(&BLKIO_RATE))),
    f("device_write_iops", List(&Kind::Obj(&BLKIO_RATE))),
]);
static BLKIO_WEIGHT: Obj = strict(&[f("path", Str), f("weight", Int)]);
static BLKIO_RATE: Obj = strict(&[f("path", Str), f("rate", Bytes)]);

static FILE_MOUNT: Obj =
    obj(&[f("source", Str), f("target", Str), f("uid", StrNum), f("gid", StrNum), p("mode", Mode)]);
static CREDENTIAL_SPEC: Obj = obj(&[f("config", Str), f("file", Str), f("registry", Str)]);

static DEPENDENCY: Obj = Obj {
    fields: &[
        f("condition", Enum(&["service_started", "service_healthy", "service_completed_successfully"])),
        f("restart", Bool),
        Field { key: "required", kind: Bool, keep: Keep::Always },
    ],
    required: &["condition"],
    extensions: true,
};

static DEPLOY: Obj = obj(&[
    f("mode", Str),
    p("replicas", Int),
    f("labels", Dict),
    p("update_config", Kind::Obj(&UPDATE)),
    p("rollback_config", Kind::Obj(&UPDATE)),
    Field { key: "resources", kind: Kind::Obj(&RESOURCES), keep: Keep::Struct },
    p("restart_policy", Kind::Obj(&RESTART_POLICY)),
    Field { key: "placement", kind: Kind::Obj(&PLACEMENT), keep: Keep::Struct },
    f("endpoint_mode", Str),
]);
static UPDATE: Obj = obj(&[
    p("parallelism", Int),
    f("delay", Duration),
    f("failure_action", Str),
    f("monitor", Duration),
    f("max_failure_ratio", Float),
    f("order", Enum(&["start-first", "stop-first"])),
]);
static RESOURCES: Obj = obj(&[p("limits", Kind::Obj(&RESOURCE)), p("reservations", Kind::Obj(&RESOURCE))]);
static RESOURCE: Obj = obj(&[
    f("cpus", Float),
    f("memory", Bytes),
    f("pids", Int),
    f("devices", List(&Kind::Obj(&DEVICE_REQUEST))),
    f("generic_resources", List(&Kind::Obj(&GENERIC_RESOURCE))),
]);
static GENERIC_RESOURCE: Obj = obj(&[p("discrete_resource_spec", Kind::Obj(&DISCRETE_RESOURCE))]);
static DISCRETE_RESOURCE: Obj =
    obj(&[Field { key: "kind", kind: Str, keep: Keep::Always }, Field { key: "value", kind: Int, keep: Keep::Always }]);
static RESTART_POLICY: Obj =
    obj(&[f("condition", Str), p("delay", Duration), p("max_attempts", Int), p("window", Duration)]);
static PLACEMENT: Obj =
    obj(&[f("constraints", StrList), f("preferences", List(&Kind::Obj(&PREFERENCE))), f("max_replicas_per_node", Int)]);
static PREFERENCE: Obj = obj(&[f("spread", Str)]);

static DEVICE: Obj = Obj {
    fields: &[f("source", Str), f("target", Str), f("permissions", Str)],
    required: &["source"],
    extensions: true,
};
static DEVICE_REQUEST: Obj = obj(&[
    f("capabilities", StrList),
    f("driver", Str),
    f("count", Count),
    f("device_ids", StrList),
    f("options", Dict),
]);
static PROVIDER: Obj =
    Obj { fields: &[f("type", Str), f("options", MultiOptions)], required: &["type"], extensions: true };
static ENV_FILE: Obj =
    Obj { fields: &[f("path", Str), p("required", Bool), f("format", Str)], required: &["path"], extensions: false };
static EXTENDS: Obj = Obj { fields: &[f("file", Str), f("service", Str)], required: &["service"], extensions: false };
static HEALTHCHECK: Obj = obj(&[
    f("test", HealthTest),
    p("timeout", Duration),
    p("interval", Duration),
    p("retries", Int),
    p("start_period", Duration),
    p("start_interval", Duration),
    f("disable", Bool),
]);
static LOGGING: Obj = obj(&[f("driver", Str), f("options", Options)]);
static SERVICE_MODEL: Obj = obj(&[f("endpoint_var", Str), f("model_var", Str)]);
static SERVICE_NETWORK: Obj = obj(&[
    f("aliases", StrList),
    f("driver_opts", Options),
    f("gw_priority", Int),
    f("interface_name", Str),
    f("ipv4_address", Str),
    f("ipv6_address", Str),
    f("link_local_ips", StrList),
    f("mac_address", Str),
    f("priority", Int),
]);
static PORT: Obj = obj(&[
    f("name", Str),
    f("mode", Str),
    f("host_ip", Str),
    f("target", Int),
    f("published", StrNum),
    f("protocol", Str),
    f("app_protocol", Str),
]);
static MOUNT: Obj = Obj {
    fields: &[
        f("type", Enum(&["bind", "volume", "tmpfs", "cluster", "npipe", "image"])),
        f("source", Str),
        f("target", Str),
        f("read_only", Bool),
        f("consistency", Str),
        p("bind", Kind::Obj(&MOUNT_BIND)),
        p("volume", Kind::Obj(&MOUNT_VOLUME)),
        p("tmpfs", Kind::Obj(&MOUNT_TMPFS)),
        p("image", Kind::Obj(&MOUNT_IMAGE)),
    ],
    required: &["type"],
    extensions: true,
};
static MOUNT_BIND: Obj = obj(&[
    f("selinux", Enum(&["z", "Z"])),
    f("propagation", Str),
    p("create_host_path", Bool),
    f("recursive", Enum(&["enabled", "disabled", "writable", "readonly"])),
]);
static MOUNT_VOLUME: Obj = obj(&[f("labels", Dict), f("nocopy", Bool), f("subpath", Str)]);
static MOUNT_TMPFS: Obj = obj(&[f("size", Bytes), f("mode", Int)]);
static MOUNT_IMAGE: Obj = obj(&[f("subpath", Str)]);

static HOOK: Obj = obj(&[
    Field { key: "command", kind: Command, keep: Keep::Always },
    f("image", Str),
    f("user", Str),
    f("privileged", Bool),
    f("working_dir", Str),
    f("environment", Env),
    f("per_replica", Bool),
]);

/// A network of the project.
pub static NETWORK: Obj = obj(&[
    f("name", Str),
    f("driver", Str),
    f("driver_opts", Options),
    Field { key: "ipam", kind: Kind::Obj(&IPAM), keep: Keep::Struct },
    f("external", External),
    f("internal", Bool),
    f("attachable", Bool),
    f("labels", Dict),
    p("enable_ipv4", Bool),
    p("enable_ipv6", Bool),
]);
static IPAM: Obj = obj(&[f("driver", Str), f("config", List(&Kind::Obj(&IPAM_POOL))), f("options", Options)]);
static IPAM_POOL: Obj = obj(&[f("subnet", Str), f("gateway", Str), f("ip_range", Str), f("aux_addresses", Options)]);

/// A volume of the project.
pub static VOLUME: Obj =
    obj(&[f("name", Str), f("driver", Str), f("driver_opts", Options), f("external", External), f("labels", Dict)]);

/// A secret of the project.
pub static SECRET: Obj = obj(&[
    f("name", Str),
    f("file", Str),
    f("environment", Str),
    f("external", External),
    f("labels", Dict),
    f("driver", Str),
    f("driver_opts", Options),
    f("template_driver", Str),
]);

/// A config of the project.
pub static CONFIG: Obj = obj(&[
    f("name", Str),
    f("file", Str),
    f("environment", Str),
    f("content", Str),
    f("external", External),
    f("labels", Dict),
    f("template_driver", Str),
]);

static MODEL: Obj = Obj {
    fields: &[f("name", Str), f("model", Str), f("context_size", Int), f("runtime_flags", StrList)],
    required: &["model"],
    extensions: true,
};

/// A kind used where a table has none of its own.
pub static ANY: Kind = Any;
