//! Containers for real: programs, exit codes, isolation.

mod common;

use common::Lab;

#[test]
fn true_ends_with_zero() {
    needs_root!();
    let lab = Lab::new();
    let (exit, out, err) = lab.run(&lab.spec(&["true"]));
    assert_eq!((exit.code, exit.signal, out.as_str(), err.as_str()), (0, None, "", ""));
}
