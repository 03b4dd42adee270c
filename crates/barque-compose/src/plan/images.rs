//! Which images are to be pulled or built.

use std::collections::BTreeMap;

use super::observed::Observed;
use crate::file::project::{Project, Service};
use crate::file::units;

/// How images are come by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// As each service says.
    #[default]
    Service,
    /// Always pull.
    Always,
    /// Pull what is missing.
    Missing,
    /// Never pull.
    Never,
    /// Build what can be built.
    Build,
}

impl Policy {
    /// The policy of a flag's word.
    pub fn parse(text: Option<&str>) -> Policy {
        match text {
            Some("always") => Policy::Always,
            Some("missing" | "if_not_present") => Policy::Missing,
            Some("never") => Policy::Never,
            Some("build") => Policy::Build,
            _ => Policy::Service,
        }
    }
}

/// What to do for one image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// It is there.
    Nothing,
    /// Pull it; what is there will do if that fails and `optional` is set.
    Pull {
        /// Why.
        why: String,
        /// The service can also be built, or has the image already.
        optional: bool,
    },
    /// Pull it, or build it if the registry does not have it.
    PullOrBuild {
        /// Why.
        why: String,
    },
    /// Build it.
    Build {
        /// Why.
        why: String,
    },
    /// It is missing and may not be pulled.
    Missing,
}

/// Flags that steer how images are come by.
#[derive(Clone, Copy, Debug, Default)]
pub struct ImageWish {
    /// `--build`.
    pub build: bool,
    /// `--no-build`.
    pub no_build: bool,
    /// `--pull`.
    pub pull: Policy,
}

/// What each service needs, by service. `now` is the time in seconds since 1970.
pub fn needs(project: &Project, observed: &Observed, wish: ImageWish, now: i64) -> BTreeMap<String, Need> {
    let services = project.services.values().filter(|s| s.spec.provider.is_none());
    services.map(|s| (s.name.clone(), need(project, s, observed, wish, now))).collect()
}

fn need(project: &Project, service: &Service, observed: &Observed, wish: ImageWish, now: i64) -> Need {
    let image = service.image(&project.name);
    let there = observed.images.get(&image);
    let can_build = service.spec.build.is_some() && !wish.no_build;
    let policy = match wish.pull {
        // `pull_policy: refresh` with a time of its own is `every_TIME`
        Policy::Service if service.spec.pull_policy == "refresh" && !service.spec.pull_refresh_after.is_empty() => {
            format!("every_{}", service.spec.pull_refresh_after)
        }
        Policy::Service => service.spec.pull_policy.clone(),
        Policy::Always => "always".to_owned(),
        Policy::Missing => "missing".to_owned(),
        Policy::Never => "never".to_owned(),
        Policy::Build => "build".to_owned(),
    };
    if can_build && (wish.build || policy == "build") {
        return Need::Build { why: if wish.build { "--build" } else { "pull_policy: build" }.to_owned() };
    }
    // what is only ever built has no name a registry would know
    let named = !service.spec.image.is_empty();
    match policy.as_str() {
        "never" if there.is_some() => Need::Nothing,
        "never" if can_build => Need::Build { why: format!("image {image} is missing") },
        "never" => Need::Missing,
        "always" if named && service.spec.build.is_none() => {
            Need::Pull { why: "pull_policy: always".to_owned(), optional: false }
        }
        "daily" | "weekly" | "refresh" if stale(there.map(|i| i.tagged.as_str()), &policy, now) => refresh(&policy),
        every if every.starts_with("every_") && stale(there.map(|i| i.tagged.as_str()), every, now) => refresh(every),
        _ if there.is_some() => Need::Nothing,
        _ if can_build && named => Need::PullOrBuild { why: format!("image {image} is missing") },
        _ if can_build => Need::Build { why: format!("image {image} is missing") },
        _ if !named => Need::Missing,
        _ => Need::Pull { why: format!("image {image} is missing"), optional: false },
    }
}

fn refresh(policy: &str) -> Need {
    Need::Pull { why: format!("pull_policy: {policy}"), optional: true }
}

/// True if an image was last tagged longer ago than the policy allows.
fn stale(tagged: Option<&str>, policy: &str, now: i64) -> bool {
    let limit = match policy {
        "weekly" => 7 * 86_400,
        "daily" | "refresh" => 86_400,
        every => every
            .strip_prefix("every_")
            .and_then(|t| units::duration(t).ok())
            .map_or(86_400, |nanos| nanos / 1_000_000_000),
    };
    match tagged.and_then(|t| t.parse::<jiff::Timestamp>().ok()) {
        Some(time) => now - time.as_second() > limit,
        None => true,
    }
}
