//! Platforms of images: `os/arch[/variant]` (OCI image-index, "platform").

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Operating system, architecture and variant, in Go's names.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Platform {
    pub os: String,
    pub architecture: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        Platform { os: os.into(), architecture: architecture.into(), variant: variant.map(Into::into) }.normalized()
    }

    /// The platform this binary was built for.
    pub fn host() -> Self {
        let (arch, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "aarch64" => ("arm64", None),
            "arm" => ("arm", Some("v7")),
            "x86" => ("386", None),
            "powerpc64" => ("ppc64le", None),
            other => (other, None),
        };
        Platform::new("linux", arch, variant)
    }

    fn normalized(mut self) -> Self {
        let (arch, variant) = match (self.architecture.as_str(), self.variant.as_deref()) {
            ("x86_64" | "x86-64", v) => ("amd64", v),
            ("aarch64", None | Some("v8" | "8")) => ("arm64", None),
            ("arm64", Some("v8" | "8")) => ("arm64", None),
            ("aarch64", v) => ("arm64", v),
            ("i386" | "x86" | "i686", v) => ("386", v),
            ("armhf", _) => ("arm", Some("v7")),
            ("armel", _) => ("arm", Some("v6")),
            ("arm", None | Some("7")) => ("arm", Some("v7")),
            ("arm", Some("6")) => ("arm", Some("v6")),
            ("arm", Some("5")) => ("arm", Some("v5")),
            ("amd64", Some("v1")) => ("amd64", None),
            (a, v) => (a, v),
        };
        let (arch, variant) = (arch.to_owned(), variant.map(str::to_owned));
        self.architecture = arch;
        self.variant = variant;
        self
    }

    /// How well an image for `offered` serves a wish for `self`: higher is better, `None` is not at all.
    pub fn score(&self, offered: &Platform) -> Option<u8> {
        let offered = offered.clone().normalized();
        let wanted = self.clone().normalized();
        if wanted.os != offered.os {
            return None;
        }
        if wanted.architecture == offered.architecture {
            let level = |v: &Option<String>| v.as_deref().and_then(|v| v.strip_prefix('v')?.parse::<u8>().ok());
            return match (level(&wanted.variant), level(&offered.variant)) {
                _ if wanted.variant == offered.variant => Some(100),
                (Some(w), Some(o)) if o < w => Some(50 + o),
                (_, None) => Some(40),
                _ => None,
            };
        }
        (wanted.architecture == "amd64" && offered.architecture == "386").then_some(1)
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(v) => write!(f, "/{v}"),
            None => Ok(()),
        }
    }
}

/// Go's names of operating systems and architectures (`GOOS` and `GOARCH`): what stands alone has to be one of them.
const SYSTEMS: &[&str] = &[
    "aix",
    "android",
    "darwin",
    "dragonfly",
    "freebsd",
    "hurd",
    "illumos",
    "ios",
    "js",
    "linux",
    "nacl",
    "netbsd",
    "openbsd",
    "plan9",
    "solaris",
    "windows",
    "zos",
];
const ARCHITECTURES: &[&str] = &[
    "386",
    "amd64",
    "amd64p32",
    "arm",
    "armbe",
    "arm64",
    "arm64be",
    "ppc64",
    "ppc64le",
    "loong64",
    "mips",
    "mipsle",
    "mips64",
    "mips64le",
    "mips64p32",
    "mips64p32le",
    "ppc",
    "riscv",
    "riscv64",
    "s390",
    "s390x",
    "sparc",
    "sparc64",
    "wasm",
];

/// Errors: InvalidArgument in Docker's words for what is no platform.
impl FromStr for Platform {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let invalid = |why: String| Error::invalid(format!("{why}: invalid argument"));
        let word = |s: &str, more: &[u8]| {
            s.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-') || more.contains(&b))
        };
        let (first, rest) = text.split_once('/').map_or((text, None), |(first, rest)| (first, Some(rest)));
        let rest: Vec<&str> = rest.into_iter().flat_map(|rest| rest.split('/')).collect();
        if rest.len() > 2 {
            return Err(invalid(format!("\"{text}\": cannot parse platform specifier"))
                .with_hint("write os/arch or os/arch/variant, such as linux/amd64"));
        }
        // The version that may follow the system's name, `windows(10.0.17763)`, chooses among images of Windows only.
        let (os, version) = match first.strip_suffix(')').and_then(|s| s.split_once('(')) {
            Some((os, version)) => (os, version),
            None => (first, ""),
        };
        if os.is_empty() || !word(os, b"") || !word(version, b".") {
            return Err(invalid(format!(
                "\"{first}\" is an invalid OS component of \"{text}\": OSAndVersion specifier component must match \
                 \"^([A-Za-z0-9_-]+)(?:\\\\(([A-Za-z0-9_.-]*)\\\\))?$\""
            )));
        }
        if let Some(bad) = rest.iter().find(|s| s.is_empty() || !word(s, b".")) {
            return Err(invalid(format!(
                "\"{bad}\" is an invalid component of \"{text}\": platform specifier component must match \
                 \"^[A-Za-z0-9_.-]+$\""
            )));
        }
        let lower = |s: &str| s.to_ascii_lowercase();
        let os = match lower(os).as_str() {
            "macos" => "darwin".to_owned(),
            os => os.to_owned(),
        };
        match rest[..] {
            [] if SYSTEMS.contains(&os.as_str()) => Ok(Platform { os, ..Platform::host() }),
            [] => {
                let platform = Platform::new("linux", &os, None);
                match ARCHITECTURES.contains(&platform.architecture.as_str()) {
                    true => Ok(platform),
                    false => Err(invalid(format!("\"{text}\": unknown operating system or architecture"))
                        .with_hint("write os/arch or os/arch/variant, such as linux/amd64")),
                }
            }
            [arch] => Ok(Platform::new(&os, &lower(arch), None)),
            [arch, variant, ..] => Ok(Platform::new(&os, &lower(arch), Some(&lower(variant)))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_normalizes() {
        assert_eq!("linux/x86_64".parse::<Platform>().unwrap().to_string(), "linux/amd64");
        assert_eq!("linux/arm64/v8".parse::<Platform>().unwrap().to_string(), "linux/arm64");
        assert_eq!("arm64".parse::<Platform>().unwrap().to_string(), "linux/arm64");
        assert!("a/b/c/d".parse::<Platform>().is_err());
        assert!("linux/".parse::<Platform>().is_err());
    }

    #[test]
    fn what_is_no_platform_is_refused_in_dockers_words() {
        let why = |text: &str| text.parse::<Platform>().unwrap_err().to_string();
        for bad in ["foo", "foo(1)", "lin-ux"] {
            assert_eq!(why(bad), format!("\"{bad}\": unknown operating system or architecture: invalid argument"));
        }
        assert_eq!(why("a/b/c/d"), "\"a/b/c/d\": cannot parse platform specifier: invalid argument");
        let os = "OSAndVersion specifier component must match \"^([A-Za-z0-9_-]+)(?:\\\\(([A-Za-z0-9_.-]*)\\\\))?$\"";
        for (bad, part) in [("", ""), ("/a", ""), ("a,b", "a,b"), ("lin ux/amd64", "lin ux"), ("a(b/c", "a(b")] {
            let said = format!("\"{part}\" is an invalid OS component of \"{bad}\": {os}: invalid argument");
            assert_eq!(why(bad), said);
        }
        for (bad, part) in [("a/", ""), ("linux/arm64/v:8", "v:8"), ("linux/a b", "a b")] {
            let said = format!(
                "\"{part}\" is an invalid component of \"{bad}\": platform specifier component must match \
                 \"^[A-Za-z0-9_.-]+$\": invalid argument"
            );
            assert_eq!(why(bad), said);
        }
        let good = |text: &str| text.parse::<Platform>().unwrap().to_string();
        assert_eq!(good("linux"), Platform::host().to_string());
        assert_eq!(good("windows(10.0.17763)/amd64"), "windows/amd64");
        assert_eq!(good("macos/x86_64"), "darwin/amd64");
        assert_eq!(good("LINUX/foo"), "linux/foo");
        assert_eq!(good("riscv64"), "linux/riscv64");
    }

    #[test]
    fn best_match_wins() {
        let v7: Platform = "linux/arm/v7".parse().unwrap();
        let v6 = "linux/arm/v6".parse().unwrap();
        let v8 = "linux/arm/v8".parse().unwrap();
        assert!(v7.score(&v7) > v7.score(&v6));
        assert_eq!(v7.score(&v8), None);
        let amd: Platform = "linux/amd64".parse().unwrap();
        assert_eq!(amd.score(&v7), None);
    }
}
