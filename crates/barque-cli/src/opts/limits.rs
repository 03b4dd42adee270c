//! `--ulimit`, and rates and weights of block devices.

use barque_api::container::{ThrottleDevice, Ulimit, WeightDevice};

/// Names of limits.
pub(crate) const ULIMITS: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// `TYPE=SOFT[:HARD]`; -1 is unlimited.
pub(crate) fn ulimit(text: &str) -> Result<Ulimit, String> {
    let (name, values) = text.split_once('=').ok_or_else(|| format!("invalid ulimit argument: {text}"))?;
    if !ULIMITS.contains(&name) {
        return Err(format!("invalid ulimit type: {name}"));
    }
    let number = |s: &str| {
        s.parse::<i64>().map_err(|e| {
            let reason = match e.kind() {
                std::num::IntErrorKind::PosOverflow | std::num::IntErrorKind::NegOverflow => "value out of range",
                _ => "invalid syntax",
            };
            format!("strconv.ParseInt: parsing {s:?}: {reason}")
        })
    };
    let (soft, hard) = match values.split(':').collect::<Vec<_>>()[..] {
        [soft] => (number(soft)?, number(soft)?),
        [soft, hard] => {
            let hard = number(hard)?;
            (number(soft)?, hard)
        }
        _ => {
            let text = "too many limit value arguments";
            return Err(format!("{text} - {values}, can only have up to two, `soft[:hard]`"));
        }
    };
    let order = "ulimit soft limit must be less than or equal to hard limit";
    if hard != -1 && soft == -1 {
        return Err(format!("{order}: soft: -1 (unlimited), hard: {hard}"));
    }
    if hard != -1 && soft > hard {
        return Err(format!("{order}: {soft} > {hard}"));
    }
    Ok(Ulimit { name: name.to_owned(), hard, soft })
}

/// Several limits, one per type, in the order of their names; the last of a type wins.
pub(crate) fn ulimits(values: &[&str]) -> Result<Vec<Ulimit>, String> {
    let mut limits = std::collections::BTreeMap::new();
    for value in values {
        let limit = ulimit(value)?;
        limits.insert(limit.name.clone(), limit);
    }
    Ok(limits.into_values().collect())
}

fn device(text: &str) -> Result<(&str, &str), String> {
    match text.split_once(':') {
        Some((path, value)) if !path.is_empty() => {
            if path.starts_with("/dev/") {
                Ok((path, value))
            } else {
                Err(format!("bad format for device path: {text}"))
            }
        }
        _ => Err(format!("bad format: {text}")),
    }
}

/// `/dev/sda:1mb`.
pub(crate) fn bps_device(text: &str) -> Result<ThrottleDevice, String> {
    let (path, rate) = device(text)?;
    let form = "The correct format is <device-path>:<number>[<unit>]. Number must be a positive integer. Unit is \
                optional and can be kb, mb, or gb";
    let rate = barque_model::size::parse_binary(rate);
    let rate = rate.map_err(|_| format!("invalid rate for device: {text}. {form}"))?;
    Ok(ThrottleDevice { path: path.to_owned(), rate })
}

/// `/dev/sda:1000`.
pub(crate) fn iops_device(text: &str) -> Result<ThrottleDevice, String> {
    let (path, rate) = device(text)?;
    let form = "The correct format is <device-path>:<number>. Number must be a positive integer";
    let rate = rate.parse().map_err(|_| format!("invalid rate for device: {text}. {form}"))?;
    Ok(ThrottleDevice { path: path.to_owned(), rate })
}

/// `/dev/sda:500`, 10 to 1000, or 0.
pub(crate) fn weight_device(text: &str) -> Result<WeightDevice, String> {
    let (path, weight) = device(text)?;
    let weight = weight.parse::<u16>().ok().filter(|&w| w == 0 || (10..=1000).contains(&w));
    let weight = weight.ok_or_else(|| format!("invalid weight for device: {text}"))?;
    Ok(WeightDevice { path: path.to_owned(), weight })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ulimits_have_two_sides() {
        assert_eq!(ulimit("nofile=1024"), Ok(Ulimit { name: "nofile".into(), hard: 1024, soft: 1024 }));
        assert_eq!(ulimit("core=0:-1"), Ok(Ulimit { name: "core".into(), hard: -1, soft: 0 }));
        assert_eq!(ulimit("nofile").unwrap_err(), "invalid ulimit argument: nofile");
        assert_eq!(ulimit("as=1").unwrap_err(), "invalid ulimit type: as");
        assert!(ulimit("nofile=2:1").unwrap_err().ends_with("hard limit: 2 > 1"));
        assert_eq!(ulimit("nofile=x").unwrap_err(), "strconv.ParseInt: parsing \"x\": invalid syntax");
        let both = ulimits(&["nproc=1", "core=2", "nproc=3"]).expect("parses");
        assert_eq!(both.iter().map(|l| (l.name.as_str(), l.soft)).collect::<Vec<_>>(), [("core", 2), ("nproc", 3)]);
    }

    #[test]
    fn devices_have_rates() {
        assert_eq!(bps_device("/dev/sda:1mb").map(|d| d.rate), Ok(1 << 20));
        assert_eq!(bps_device("sda:1").unwrap_err(), "bad format for device path: sda:1");
        assert_eq!(bps_device("x").unwrap_err(), "bad format: x");
        assert!(iops_device("/dev/sda:1k").is_err());
        assert_eq!(weight_device("/dev/sda:5").unwrap_err(), "invalid weight for device: /dev/sda:5");
    }
}
