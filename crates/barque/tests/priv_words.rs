//! What clients and scripts read: host names in shared networks, refusals, exit statuses.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on may panic")]

mod pair;

use pair::{Engine, in_namespaces};

#[test]
fn priv_a_shared_network_has_one_host_name() {
    in_namespaces("priv_a_shared_network_has_one_host_name", |scratch| {
        let mut engine = Engine::barque(scratch, &[]);
        engine.import_busybox("box", &["ENV PATH=/bin"]);
        engine.ok(&["run", "-d", "--name", "x", "--hostname", "ex", "--domainname", "corp", "box", "sleep", "1000"]);
        engine.ok(&["run", "-d", "--name", "y", "--network", "container:x", "box", "sleep", "1000"]);
        let said = "hostname; cat /proc/sys/kernel/domainname; echo $HOSTNAME; cat /etc/hostname";
        let expected = "ex\ncorp\nex\nex";
        assert_eq!(engine.ok(&["run", "--rm", "--network", "container:x", "box", "sh", "-c", said]), expected);
        assert_eq!(engine.ok(&["exec", "y", "sh", "-c", said]), expected);
        let shown = ["inspect", "-f", "{{.Config.Hostname}} {{.Config.Domainname}}", "y"];
        assert_eq!(engine.ok(&shown), "ex corp");
        engine.down(false);
        engine.up();
        assert_eq!(engine.ok(&shown), "ex corp");
        engine.fails(
            &["run", "--rm", "--network", "container:x", "--hostname", "own", "box", "true"],
            "conflicting options: hostname and the network mode",
        );
    });
}
