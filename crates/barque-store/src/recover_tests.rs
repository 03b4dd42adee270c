//! Crashes: whatever was under way, rows and files agree after opening.

use barque_model::{Digest, Id};

use crate::layer::LayerSource;
use crate::testing::{Scratch, Tar, gzip, read};

fn count(scratch: &Scratch, dir: &str) -> usize {
    std::fs::read_dir(scratch.store.root().join(dir)).unwrap().count()
}

#[test]
fn what_a_crash_left_is_cleared() {
    let scratch = Scratch::new();
    let lease = scratch.lease();
    let top = scratch.chain(&lease, &[gzip(&Tar::new().file("f", "x").done())]);
    let root = scratch.store.root().to_owned();
    std::fs::create_dir_all(root.join("tmp/half/diff/etc")).unwrap();
    std::fs::create_dir_all(root.join(format!("layers/{}/diff", "0".repeat(64)))).unwrap();
    std::fs::create_dir_all(root.join(format!("snapshots/{}/upper", Id::random()))).unwrap();
    std::fs::create_dir_all(root.join("blobs/sha256/00")).unwrap();
    std::fs::write(root.join(format!("blobs/sha256/00/{}", "0".repeat(64))), "stray").unwrap();
    drop(lease);
    let lease = scratch.lease();
    assert!(scratch.store.hold_layer(&lease, &top).unwrap());
    // Leases survive a crash: their handles are never dropped.
    std::mem::forget(lease);
    let scratch = scratch.reopen_crashed();
    let recovery = scratch.store.recovery();
    assert_eq!((recovery.temporary, recovery.layers, recovery.snapshots, recovery.blobs), (1, 1, 1, 1));
    assert!(recovery.lost.is_empty());
    assert_eq!(read(scratch.layer_path(&top).join("f")), "x");
    scratch.store.flush();
    assert_eq!((count(&scratch, "tmp"), count(&scratch, "trash"), count(&scratch, "layers")), (0, 0, 1));
    let again = scratch.reopen();
    assert_eq!(again.store.recovery(), crate::Recovery::default(), "a second time there is nothing to do");
}

#[test]
fn a_lost_layer_is_unpacked_again() {
    let scratch = Scratch::new();
    let lease = scratch.lease();
    let top = scratch.chain(
        &lease,
        &[gzip(&Tar::new().dir("d/").file("d/f", "below").done()), gzip(&Tar::new().link("d/g", "d/f").done())],
    );
    std::mem::forget(lease);
    std::fs::remove_dir_all(scratch.store.root().join("layers")).unwrap();
    let scratch = scratch.reopen_crashed();
    assert_eq!(scratch.store.recovery().repaired.len(), 2);
    assert_eq!(read(scratch.layer_path(&top).join("d/g")), "below");
}

#[test]
fn what_had_not_reached_the_disk_is_verified_after_a_reboot() {
    let scratch = Scratch::new();
    let lease = scratch.lease();
    let good = gzip(&Tar::new().file("f", "good").done());
    let torn = gzip(&Tar::new().file("f", "torn").done());
    let (good_top, torn_top) = (scratch.chain(&lease, &[good]), scratch.chain(&lease, &[torn.clone()]));
    std::mem::forget(lease);
    // As if the power had failed: unsynced, another boot, files full of zeros.
    let store = &scratch.store;
    store.flush();
    store
        .write(|tx| {
            tx.conn.execute_batch("UPDATE blob SET synced = 0; UPDATE layer SET synced = 0").unwrap();
            tx.kv_set("boot_id", "another boot")
        })
        .unwrap();
    std::fs::write(store.blob_path(&Digest::of(&torn)), vec![0; torn.len()]).unwrap();
    std::fs::write(scratch.layer_path(&good_top).join("f"), "\0\0\0\0").unwrap();
    let scratch = scratch.reopen_crashed();
    let recovery = scratch.store.recovery();
    assert_eq!(recovery.blobs, 1, "the torn blob is forgotten");
    assert_eq!(recovery.repaired, [good_top]);
    assert_eq!(read(scratch.layer_path(&good_top).join("f")), "good");
    assert_eq!(recovery.lost.len(), 1);
    assert!(recovery.lost[0].contains(&torn_top.to_string()), "{:?}", recovery.lost);
}

#[test]
fn an_expired_lease_holds_nothing() {
    let scratch = Scratch::new();
    let bytes = gzip(&Tar::new().file("a", &"data".repeat(10_000)).done());
    let source =
        LayerSource { digest: Some(Digest::of(&bytes)), size: Some(bytes.len() as u64), ..LayerSource::default() };
    let lease = scratch.lease();
    let mut writer = scratch.store.layer_writer(&lease, source).unwrap();
    writer.push(&bytes[..100]).unwrap();
    drop(writer);
    let top = scratch.chain(&lease, &[gzip(&Tar::new().file("b", "b").done())]);
    std::mem::forget(lease);
    let scratch = scratch.reopen_crashed();
    let collected = scratch.store.collect().unwrap();
    assert_eq!((collected.ingests, collected.layers.len(), collected.blobs.len()), (0, 0, 0));
    assert_eq!(count(&scratch, "ingest"), 1);
    scratch
        .store
        .write(|tx| tx.conn.execute("UPDATE lease SET expires_at = 1", []).map(|_| ()).map_err(crate::error::db))
        .unwrap();
    let collected = scratch.store.collect().unwrap();
    assert_eq!((collected.ingests, collected.layers, collected.blobs.len()), (1, vec![top], 1));
    assert!(collected.bytes > 1000, "{} with the interrupted one's", collected.bytes);
    scratch.store.flush();
    assert_eq!((count(&scratch, "ingest"), count(&scratch, "layers")), (0, 0));
}

#[test]
fn usage_counts_what_is_on_the_disk() {
    let scratch = Scratch::new();
    let lease = scratch.lease();
    scratch.chain(&lease, &[gzip(&Tar::new().file("a", &"x".repeat(5000)).done())]);
    let usage = scratch.store.disk_usage().unwrap();
    assert_eq!(usage.layers, 5000);
    assert!(usage.blobs > 0 && usage.images.is_empty() && usage.build_cache == 0);
}

#[test]
fn a_snapshot_half_made_is_made() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = Scratch::new();
    let id = Id::random();
    let dirs = scratch.store.create_snapshot(id, None).unwrap();
    // As a crash between the directory and its mode.
    std::fs::remove_dir(&dirs.upper).unwrap();
    let fresh = dirs.upper.with_file_name("upper.new");
    std::fs::create_dir(&fresh).unwrap();
    std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o711)).unwrap();
    let again = scratch.store.prepare_snapshot(&id).unwrap();
    assert_eq!(std::fs::metadata(&again.upper).unwrap().permissions().mode() & 0o7777, 0o755);
    assert!(!fresh.exists());
}
