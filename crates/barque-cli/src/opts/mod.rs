//! The small languages of flag values: ports, mounts, networks, limits, filters, variables.
//!
//! Each has one pure parser; the `check_…` functions are the same parsers as the command line calls them, so
//! that a bad value is refused while the flags are read, with the flag's name.

pub(crate) mod capabilities;
pub(crate) mod device;
pub(crate) mod env;
pub(crate) mod filter;
pub(crate) mod gpu;
pub(crate) mod limits;
pub(crate) mod mount;
pub(crate) mod names;
pub(crate) mod network;
pub(crate) mod port;
pub(crate) mod volume;

/// Accepts everything.
pub(crate) fn any(_: &str) -> Result<(), String> {
    Ok(())
}

macro_rules! checks {
    ($($name:ident => $parser:path),* $(,)?) => {$(
        pub(crate) fn $name(value: &str) -> Result<(), String> {
            $parser(value).map(drop)
        }
    )*};
}

checks! {
    check_attach => names::attach,
    check_bps_device => limits::bps_device,
    check_device_rule => device::cgroup_rule,
    check_dns_search => names::dns_search,
    check_env => env::variable,
    check_extra_host => names::extra_host,
    check_filter => filter::split,
    check_gpus => gpu::parse,
    check_iops_device => limits::iops_device,
    check_ip => names::ip,
    check_label => names::label,
    check_link => names::link,
    check_mount => mount::check,
    check_network => network::parse,
    check_sysctl => names::sysctl,
    check_tag => names::image_tag,
    check_ulimit => limits::ulimit,
    check_weight_device => limits::weight_device,
}

/// What a flag's value may refer to: the working directory and the variables of the caller.
pub(crate) struct Surroundings<'a> {
    pub(crate) directory: std::path::PathBuf,
    pub(crate) variable: &'a dyn Fn(&str) -> Option<String>,
}

impl Surroundings<'_> {
    /// `path` made absolute, without looking at the file system: `.` and `..` are resolved as text.
    pub(crate) fn absolute(&self, path: &str) -> String {
        let mut parts: Vec<&str> = Vec::new();
        let directory = self.directory.to_string_lossy();
        let start = if path.starts_with('/') { "" } else { &directory };
        for part in start.split('/').chain(path.split('/')) {
            match part {
                "" | "." => {}
                ".." => {
                    parts.pop();
                }
                part => parts.push(part),
            }
        }
        format!("/{}", parts.join("/"))
    }
}

/// `key=value` split; a missing value is empty.
pub(crate) fn key_value(text: &str) -> (String, String) {
    match text.split_once('=') {
        Some((key, value)) => (key.to_owned(), value.to_owned()),
        None => (text.to_owned(), String::new()),
    }
}

/// Many `key=value` as a map; the last one wins.
pub(crate) fn map<'a>(values: impl IntoIterator<Item = &'a str>) -> std::collections::BTreeMap<String, String> {
    values.into_iter().map(key_value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_absolute() {
        let here = Surroundings { directory: "/a/b".into(), variable: &|_| None };
        assert_eq!(here.absolute("./data"), "/a/b/data");
        assert_eq!(here.absolute(".."), "/a");
        assert_eq!(here.absolute("../../../x"), "/x");
        assert_eq!(here.absolute("/y/../z"), "/z");
    }
}
