//! Blobs: written, resumed, verified, refused.

use barque_model::{Digest, ErrorKind};

use super::*;
use crate::testing::Scratch;

fn spec(bytes: &[u8]) -> IngestSpec {
    IngestSpec { digest: Some(Digest::of(bytes)), size: Some(bytes.len() as u64), ..IngestSpec::default() }
}

#[test]
fn a_blob_is_there_once_it_is_committed() {
    let scratch = Scratch::new();
    let lease = scratch.lease();
    let digest = Digest::of(b"hello");
    let mut ingest = scratch.store.ingest(&lease, spec(b"hello")).unwrap();
    ingest.push(b"hel").unwrap();
    assert!(scratch.store.open_blob(&digest).is_err());
    ingest.push(b"lo").unwrap();
    assert_eq!(ingest.commit().unwrap(), Blob { digest, size: 5 });
    assert_eq!(scratch.store.read_document(&digest).unwrap(), b"hello");
    assert!(scratch.store.blob_path(&digest).to_string_lossy().contains(&format!("sha256/{}/", &digest.hex()[..2])));
    // Whoever comes later need not write it.
    let mut again = scratch.store.ingest(&lease, spec(b"hello")).unwrap();
    assert!(again.is_present());
    assert_eq!(again.offset(), 5);
    again.push(b"ignored").unwrap();
    assert_eq!(again.commit().unwrap().size, 5);
    assert_eq!(scratch.store.put_blob(&lease, b"hello").unwrap().digest, digest);
    assert!(scratch.store.hold_blob(&lease, &digest).unwrap());
    assert!(!scratch.store.hold_blob(&lease, &Digest::of(b"other")).unwrap());
}

#[test]
fn sizes_and_digests_are_verified() {
    let scratch = Scratch::new();
    let lease = scratch.lease();
    let mut ingest = scratch.store.ingest(&lease, spec(b"hello")).unwrap();
    assert_eq!(ingest.push(b"hello!").unwrap_err().kind(), ErrorKind::InvalidArgument);
    ingest.push(b"jello").unwrap();
    let error = ingest.commit().unwrap_err();
    assert!(error.to_string().contains("digest mismatch"), "{error}");
    let short = scratch.store.ingest(&lease, spec(b"hello")).unwrap();
    assert_eq!(short.offset(), 0, "wrong bytes are not resumed");
    assert_eq!(short.commit().unwrap_err().kind(), ErrorKind::Unavailable);
    assert!(scratch.store.read(|r| r.blobs()).unwrap().is_empty());
}

#[test]
fn what_was_interrupted_goes_on_where_it_stopped() {
    let mut scratch = Scratch::new();
    let bytes = vec![7u8; 300_000];
    {
        let lease = scratch.lease();
        let mut ingest = scratch.store.ingest(&lease, spec(&bytes)).unwrap();
        ingest.push(&bytes[..200_000]).unwrap();
    }
    scratch = scratch.reopen();
    assert_eq!(scratch.store.collect().unwrap().ingests, 0, "the lease lingers");
    let lease = scratch.lease();
    let mut ingest = scratch.store.ingest(&lease, spec(&bytes)).unwrap();
    assert_eq!(ingest.offset(), 200_000);
    ingest.restart().unwrap();
    assert_eq!(ingest.offset(), 0);
    ingest.push(&bytes[..100]).unwrap();
    drop(ingest);
    let mut ingest = scratch.store.ingest(&lease, spec(&bytes)).unwrap();
    ingest.push(&bytes[100..]).unwrap();
    ingest.commit().unwrap();
    // What has no digest cannot be found again and is not kept.
    let mut nameless = scratch.store.ingest(&lease, IngestSpec::default()).unwrap();
    nameless.push(b"x").unwrap();
    drop(nameless);
    let mut unwanted = scratch.store.ingest(&lease, spec(b"unwanted")).unwrap();
    unwanted.push(b"unw").unwrap();
    unwanted.abort();
    assert_eq!(std::fs::read_dir(scratch.store.root().join("ingest")).unwrap().count(), 0);
}

#[test]
fn two_writers_of_one_blob_take_turns() {
    let scratch = Scratch::new();
    let lease = scratch.lease();
    let bytes = vec![1u8; 50_000];
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut ingest = scratch.store.ingest(&lease, spec(&bytes)).unwrap();
                let offset = usize::try_from(ingest.offset()).unwrap();
                for part in bytes[offset..].chunks(1000) {
                    ingest.push(part).unwrap();
                }
                ingest.commit().unwrap();
            });
        }
    });
    assert_eq!(scratch.store.read(|r| r.blobs()).unwrap().len(), 1);
}

#[test]
fn documents_are_bounded() {
    let scratch = Scratch::new();
    let lease = scratch.lease();
    let large = vec![b' '; 5 << 20];
    let blob = scratch.store.put_blob(&lease, &large).unwrap();
    assert_eq!(scratch.store.read_document(&blob.digest).unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(scratch.store.read_document(&Digest::of(b"none")).unwrap_err().kind(), ErrorKind::NotFound);
}
