//! Rows and their invariants.

use barque_model::{ErrorKind, Id, Timestamp};

use super::*;
use crate::testing::Scratch;

fn container(name: &str) -> Container {
    Container {
        id: Id::random(),
        name: name.into(),
        image: None,
        image_ref: "img".into(),
        snapshot: None,
        created_at: Timestamp::now(),
        spec: "{\"a\":1}".into(),
        document: "{}".into(),
        state: "created".into(),
    }
}

fn network(name: &str) -> Network {
    Network {
        id: Id::random(),
        name: name.into(),
        driver: "bridge".into(),
        created_at: Timestamp::now(),
        definition: "{}".into(),
    }
}

fn volume(name: &str) -> Volume {
    Volume {
        name: name.into(),
        driver: "local".into(),
        created_at: Timestamp::now(),
        anonymous: false,
        labels: "{}".into(),
        options: "{}".into(),
        mountpoint: format!("/v/{name}/_data").into(),
    }
}

fn endpoint(container: &Container, network: &Network, ip4: &str) -> Endpoint {
    Endpoint {
        container: container.id,
        network: network.id,
        ip4: ip4.parse().ok(),
        ip6: None,
        mac: "02:42:ac:11:00:02".parse().ok(),
        definition: "{}".into(),
    }
}

#[test]
fn containers_are_found_by_id_name_and_prefix() {
    let store = Scratch::new().store;
    let c = container("web");
    store.write(|tx| tx.container_insert(&c)).unwrap();
    let hex = c.id.to_string();
    for text in [hex.as_str(), "web", "/web", &hex[..12], &hex[..3]] {
        assert_eq!(store.read(|r| r.container_find(text)).unwrap(), c.id, "{text}");
    }
    assert_eq!(store.read(|r| r.container(&c.id)).unwrap().unwrap(), c);
    let error = store.read(|r| r.container_find("none")).unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::NotFound, "No such container: none"));
    store.write(|tx| tx.container_set_state(&c.id, "running")).unwrap();
    assert_eq!(store.read(|r| r.container(&c.id)).unwrap().unwrap().state, "running");
    assert_eq!(store.write(|tx| tx.container_set_state(&Id::random(), "x")).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn a_name_is_taken_once() {
    let store = Scratch::new().store;
    let (a, b) = (container("web"), container("web"));
    store.write(|tx| tx.container_insert(&a)).unwrap();
    let error = store.write(|tx| tx.container_insert(&b)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(
        error.to_string(),
        format!(
            "Conflict. The container name \"/web\" is already in use by container \"{}\". You have to remove (or \
             rename) that container to be able to reuse that name.",
            a.id
        )
    );
    let other = Container { name: "db".into(), ..b };
    store.write(|tx| tx.container_insert(&other)).unwrap();
    assert_eq!(store.write(|tx| tx.container_rename(&other.id, "web")).unwrap_err().kind(), ErrorKind::Conflict);
    store.write(|tx| tx.container_rename(&other.id, "db2")).unwrap();
}

#[test]
fn addresses_are_unique_within_a_network() {
    let store = Scratch::new().store;
    let (a, b, n, m) = (container("a"), container("b"), network("n"), network("m"));
    store
        .write(|tx| {
            tx.container_insert(&a)?;
            tx.container_insert(&b)?;
            tx.network_insert(&n)?;
            tx.network_insert(&m)?;
            tx.endpoint_put(&endpoint(&a, &n, "172.17.0.2"))?;
            tx.endpoint_put(&endpoint(&b, &m, "172.17.0.2"))
        })
        .unwrap();
    let error = store.write(|tx| tx.endpoint_put(&endpoint(&b, &n, "172.17.0.2"))).unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Conflict, "Address already in use"));
    assert_eq!(error.hint(), Some("container a holds this address"));
    store.write(|tx| tx.endpoint_put(&endpoint(&b, &n, "172.17.0.3"))).unwrap();
    let used = store.read(|r| r.addresses_in_use(&n.id)).unwrap();
    assert_eq!(used.len(), 2);
    // Addresses given back may be taken again; endpoints without any do not disturb each other.
    for c in [&a, &b] {
        store.write(|tx| tx.endpoint_put(&endpoint(c, &n, ""))).unwrap();
    }
    let error = store.write(|tx| tx.network_delete(&n.id)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains("has active endpoints (name:\""), "{error}");
    store.write(|tx| tx.container_delete(&a.id)).unwrap();
    store.write(|tx| tx.endpoint_delete(&b.id, &n.id)).unwrap();
    store.write_durable(|tx| tx.network_delete(&n.id)).unwrap();
    assert!(store.read(|r| r.network_find(&n.name)).is_err());
    let again = store.write(|tx| tx.network_insert(&network("m"))).unwrap_err();
    assert_eq!(again.to_string(), "network with name m already exists");
}

#[test]
fn volumes_in_use_stay() {
    let store = Scratch::new().store;
    let (c, v) = (container("c"), volume("data"));
    store
        .write(|tx| {
            tx.container_insert(&c)?;
            tx.volume_insert(&v)?;
            tx.volume_use_insert(&c.id, "data")?;
            tx.volume_use_insert(&c.id, "data")
        })
        .unwrap();
    let error = store.write(|tx| tx.volume_delete("data")).unwrap_err();
    assert_eq!(error.to_string(), format!("remove data: volume is in use - [{}]", c.id));
    store.write(|tx| tx.volume_rename("data", "other", "/v/other/_data".as_ref())).unwrap();
    assert_eq!(store.read(|r| r.volumes_of_container(&c.id)).unwrap(), ["other"]);
    assert_eq!(store.write(|tx| tx.volume_use_insert(&c.id, "none")).unwrap_err().kind(), ErrorKind::NotFound);
    store.write(|tx| tx.container_delete(&c.id)).unwrap();
    store.write(|tx| tx.volume_delete("other")).unwrap();
    assert_eq!(store.write(|tx| tx.volume_delete("other")).unwrap_err().to_string(), "get other: no such volume");
}

#[test]
fn a_failed_transaction_leaves_nothing() {
    let store = Scratch::new().store;
    let c = container("c");
    let result: Result<()> = store.write(|tx| {
        tx.container_insert(&c)?;
        tx.kv_set("k", "v")?;
        assert_eq!(tx.kv("k")?.as_deref(), Some("v"), "a transaction sees its own changes");
        Err(Error::internal("changed my mind"))
    });
    assert!(result.is_err());
    assert!(store.read(|r| r.containers()).unwrap().is_empty());
    assert_eq!(store.read(|r| r.kv("k")).unwrap(), None);
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _ = store.write(|tx| {
            tx.kv_set("k", "v")?;
            panic!("bug");
            #[allow(unreachable_code)]
            Ok(())
        });
    }));
    assert!(panicked.is_err());
    store.write(|tx| tx.kv_set("after", "1")).unwrap();
    assert_eq!(store.read(|r| r.kv("k")).unwrap(), None);
}

#[test]
fn what_was_written_is_there_after_reopening() {
    let scratch = Scratch::new();
    let c = container("c");
    scratch.store.write(|tx| tx.container_insert(&c)).unwrap();
    let scratch = scratch.reopen();
    assert_eq!(scratch.store.read(|r| r.containers()).unwrap(), [c]);
}

#[test]
fn a_data_root_has_one_engine() {
    let scratch = Scratch::new();
    let again = crate::Store::open(crate::StoreOptions::new(scratch.store.root())).err().unwrap();
    assert_eq!(again.kind(), ErrorKind::Conflict);
    assert!(again.to_string().contains("another engine is using the data root"), "{again}");
}

#[test]
fn a_database_of_the_future_is_refused() {
    let scratch = Scratch::new();
    scratch.store.close().unwrap();
    let root = scratch.store.root().to_owned();
    let Scratch { store, dir } = scratch;
    drop(store);
    Connection::open(root.join("barque.db")).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let error = crate::Store::open(crate::StoreOptions::new(&root)).err().unwrap();
    assert!(error.to_string().contains("has version 99"), "{error}");
    drop(dir);
}

#[test]
fn a_database_of_version_1_goes_on() {
    let scratch = Scratch::new();
    let made = crate::image::tests::image(&scratch, &["a"], &["app:1"], None);
    let path = scratch.store.root().join("barque.db");
    scratch.store.close().unwrap();
    let Scratch { store, dir } = scratch;
    drop(store);
    let old = Connection::open(&path).unwrap();
    old.execute_batch("ALTER TABLE image_name DROP COLUMN manifest; PRAGMA user_version = 1").unwrap();
    drop(old);
    let store = crate::Store::open(crate::StoreOptions::new(dir.path().join("root"))).unwrap();
    let name = "app:1".parse().unwrap();
    assert_eq!(store.read(|r| r.image_by_name(&name)).unwrap(), Some(made.id));
    assert_eq!(store.read(|r| r.image_name_manifest(&name)).unwrap(), None);
    let digest = barque_model::Digest::of(b"x");
    store.write(|tx| tx.image_name_set(&name, &made.id, Some(digest))).unwrap();
    assert_eq!(store.read(|r| r.image_name_manifest(&name)).unwrap(), Some(digest));
}

#[test]
fn build_cache_records_die_with_their_layer() {
    let scratch = Scratch::new();
    let lease = scratch.lease();
    let top = scratch.chain(&lease, &[crate::testing::Tar::new().file("f", "x").done()]);
    let entry = CacheEntry {
        key: "k".into(),
        record: "{}".into(),
        layer: Some(top),
        size: 1,
        created_at: Timestamp::now(),
        last_used: Timestamp::from_secs(1),
        uses: 0,
    };
    scratch.store.write(|tx| tx.cache_put(&entry)).unwrap();
    drop(lease);
    assert!(scratch.store.collect().unwrap().layers.is_empty(), "the record holds the layer");
    scratch.store.write(|tx| tx.cache_touch("k")).unwrap();
    let found = scratch.store.read(|r| r.cache_get("k")).unwrap().unwrap();
    assert_eq!(found.uses, 1);
    assert!(found.last_used > entry.last_used);
    scratch.store.write(|tx| tx.cache_delete("k")).unwrap();
    assert_eq!(scratch.store.collect().unwrap().layers, [top]);
}

#[test]
fn mac_addresses_parse_and_print() {
    let mac: MacAddr = "02:42:AC:11:00:02".parse().unwrap();
    assert_eq!(mac.to_string(), "02:42:ac:11:00:02");
    for bad in ["", "02:42", "02:42:ac:11:00:02:03", "0g:42:ac:11:00:02", "0242ac110002"] {
        assert!(bad.parse::<MacAddr>().is_err(), "{bad}");
    }
}
