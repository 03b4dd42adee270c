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

impl FromStr for Platform {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts: Vec<&str> = text.split('/').collect();
        let good =
            |s: &&str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
        if !parts.iter().all(good) {
            return Err(Error::invalid(format!("\"{text}\" is an invalid component of a platform")));
        }
        let lower = |s: &str| s.to_ascii_lowercase();
        match parts[..] {
            ["linux" | "windows" | "darwin" | "freebsd"] => Ok(Platform { os: lower(text), ..Platform::host() }),
            [arch] => Ok(Platform::new("linux", &lower(arch), None)),
            [os, arch] => Ok(Platform::new(&lower(os), &lower(arch), None)),
            [os, arch, variant] => Ok(Platform::new(&lower(os), &lower(arch), Some(&lower(variant)))),
            _ => Err(Error::invalid(format!("\"{text}\": cannot parse platform specifier"))
                .with_hint("write os/arch or os/arch/variant, such as linux/amd64")),
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
