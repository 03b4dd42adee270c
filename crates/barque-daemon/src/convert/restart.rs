//! Restart policies.

use barque_api::container::RestartPolicy as Wire;
use barque_engine::container::spec::RestartPolicy;
use barque_model::{Error, Result};

/// # Errors
/// An unknown name; a retry count where none belongs, or a negative one.
pub(crate) fn policy(wire: &Wire) -> Result<RestartPolicy> {
    let invalid = |why: String| Error::invalid(format!("invalid restart policy: {why}"));
    let count = wire.maximum_retry_count;
    match wire.name.as_str() {
        "on-failure" => match u32::try_from(count) {
            Ok(max_retries) => Ok(RestartPolicy::OnFailure { max_retries }),
            Err(_) => Err(invalid("maximum retry count cannot be negative".into())),
        },
        "always" | "unless-stopped" | "no" if count != 0 => {
            let mut why = "maximum retry count can only be used with 'on-failure'".to_owned();
            if count < 0 {
                why.push_str(" and cannot be negative");
            }
            Err(invalid(why))
        }
        "always" => Ok(RestartPolicy::Always),
        "unless-stopped" => Ok(RestartPolicy::UnlessStopped),
        "no" | "" => Ok(RestartPolicy::No),
        other => Err(invalid(format!(
            "unknown policy '{other}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_counts() {
        let of = |name: &str, count| policy(&Wire { name: name.into(), maximum_retry_count: count });
        assert_eq!(of("", 0).unwrap(), RestartPolicy::No);
        assert_eq!(of("on-failure", 3).unwrap(), RestartPolicy::OnFailure { max_retries: 3 });
        assert_eq!(
            of("sometimes", 0).unwrap_err().to_string(),
            "invalid restart policy: unknown policy 'sometimes'; use one of 'no', 'always', 'on-failure', or \
             'unless-stopped'"
        );
        assert_eq!(
            of("always", 2).unwrap_err().to_string(),
            "invalid restart policy: maximum retry count can only be used with 'on-failure'"
        );
        assert_eq!(
            of("on-failure", -1).unwrap_err().to_string(),
            "invalid restart policy: maximum retry count cannot be negative"
        );
    }
}
