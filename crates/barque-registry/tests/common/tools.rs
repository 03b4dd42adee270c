//! Programs that tests compare with, and what it means if one is not here.

use std::path::Path;

/// Lists, separated by spaces, the programs that may be missing; any other that a test asks for has to be there then.
/// Set where everything is installed before the tests run (`.ci/run`), so that nothing goes untested in silence.
const MAY_LACK: &str = "BARQUE_TESTS_MAY_LACK";

/// Whether a program is installed; says so if not.
///
/// Panics if it is none of those that may be missing.
pub fn installed(program: &str) -> bool {
    let path = std::env::var("PATH").unwrap_or_default();
    let found = path.split(':').chain(["/usr/sbin", "/sbin"]).any(|dir| Path::new(dir).join(program).is_file());
    if !found {
        lacking(program, std::env::var(MAY_LACK).ok().as_deref());
    }
    found
}

fn lacking(program: &str, may_lack: Option<&str>) {
    let listed = may_lack.is_none_or(|list| list.split_whitespace().any(|one| one == program));
    assert!(listed, "{program} is not installed, and {MAY_LACK} does not name it");
    eprintln!("skipped: {program} is not installed");
}

/// Where nothing is said all may be missing; where something is, only what is named.
#[test]
fn only_what_is_named_may_be_missing() {
    let passes =
        |program: &'static str, list: Option<&'static str>| std::panic::catch_unwind(|| lacking(program, list)).is_ok();
    assert!(passes("skopeo", None));
    assert!(passes("dockerd", Some("docker dockerd")));
    assert!(!passes("skopeo", Some("docker dockerd")));
    assert!(!passes("docker", Some("")) && !passes("docker", Some("dockerd")));
}
