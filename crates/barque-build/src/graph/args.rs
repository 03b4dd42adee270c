//! Variables: global arguments, predefined ones, and the ordered environment of a stage.

use std::borrow::Cow;
use std::collections::BTreeMap;

use barque_model::Platform;

use crate::options::BuildOptions;
use crate::shell::Env;

/// Build arguments every Dockerfile may use without declaring them.
pub(super) const PROXY_ARGS: [&str; 5] = ["http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy"];

/// Arguments that change how BuildKit builds: what they ask for is done, or goes without saying for one platform.
const BUILDKIT_ARGS: [&str; 9] = [
    "BUILDKIT_BUILD_NAME",
    "BUILDKIT_CONTEXT_KEEP_GIT_DIR",
    "BUILDKIT_DOCKERFILE_CHECK",
    "BUILDKIT_HISTORY_PROVENANCE_V1",
    "BUILDKIT_INLINE_CACHE",
    "BUILDKIT_MULTI_PLATFORM",
    "BUILDKIT_SANDBOX_HOSTNAME",
    "BUILDKIT_SYNTAX",
    CACHE_MOUNT_NS,
];

/// The build argument that keeps cache mounts apart (BuildKit's).
pub(super) const CACHE_MOUNT_NS: &str = "BUILDKIT_CACHE_MOUNT_NS";

/// Variables in the order they were first set.
#[derive(Debug, Clone, Default)]
pub(super) struct Vars {
    order: Vec<String>,
    values: BTreeMap<String, String>,
}

impl Vars {
    pub(super) fn set(&mut self, name: &str, value: &str) {
        if self.values.insert(name.to_owned(), value.to_owned()).is_none() {
            self.order.push(name.to_owned());
        }
    }

    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.order.iter().map(String::as_str)
    }

    /// `NAME=value`, in order.
    pub(super) fn pairs(&self) -> Vec<String> {
        self.order.iter().map(|n| format!("{n}={}", self.values.get(n).map_or("", String::as_str))).collect()
    }
}

impl Env for Vars {
    fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        self.value(name).map(Cow::Borrowed)
    }
}

/// `BUILDPLATFORM`, `TARGETPLATFORM` and their parts.
pub(super) fn platform_vars(options: &BuildOptions, target_name: &str) -> Vars {
    let mut vars = Vars::default();
    let mut add = |prefix: &str, platform: &Platform| {
        let parts = [
            ("PLATFORM", platform.to_string()),
            ("OS", platform.os.clone()),
            ("OSVERSION", String::new()),
            ("ARCH", platform.architecture.clone()),
            ("VARIANT", platform.variant.clone().unwrap_or_default()),
        ];
        for (suffix, value) in parts {
            vars.set(&format!("{prefix}{suffix}"), &value);
        }
    };
    add("BUILD", &options.build_platform);
    add("TARGET", options.target_platform());
    vars.set("TARGETSTAGE", if target_name.is_empty() { "default" } else { target_name });
    let names: Vec<String> = vars.names().map(str::to_owned).collect();
    for name in names {
        if let Some(Some(value)) = options.build_args.get(&name) {
            vars.set(&name, value);
        }
    }
    vars
}

/// `http_proxy=…` and `HTTP_PROXY=…` for every proxy build argument.
pub(super) fn proxy_env(options: &BuildOptions) -> Vec<String> {
    let mut env = Vec::new();
    for name in PROXY_ARGS {
        let given = options.build_args.iter().rfind(|(k, _)| k.eq_ignore_ascii_case(name));
        if let Some((_, Some(value))) = given.filter(|(_, v)| v.as_deref().is_some_and(|v| !v.is_empty())) {
            env.push(format!("{}={value}", name.to_uppercase()));
            env.push(format!("{name}={value}"));
        }
    }
    env
}

/// Whether Docker knows the argument without a declaration.
pub(super) fn is_predefined(name: &str) -> bool {
    PROXY_ARGS.iter().any(|p| p.eq_ignore_ascii_case(name))
        || name == "SOURCE_DATE_EPOCH"
        || BUILDKIT_ARGS.contains(&name)
        || name.starts_with("BARQUE_")
}
