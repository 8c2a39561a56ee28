//! A full disk: a clear error, reads go on, nothing is lost, and the store goes on by itself once there is room.

use std::path::Path;
use std::process::Command;

use super::super::scan::KeyRange;
use super::*;

const TABLE: (Family, TableId) = (Family::State, TableId(7));
const KEYS_PER_EPOCH: u32 = 8;

/// A small file system of its own, unmounted when dropped.
struct SmallDisk {
    directory: tempfile::TempDir,
}

impl SmallDisk {
    fn mount(size: &str) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new("mount");
        command
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(directory.path());
        command
            .output()
            .ok()?
            .status
            .success()
            .then_some(Self { directory })
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount")
            .arg("-l")
            .arg(self.directory.path())
            .output();
    }
}

#[test]
fn a_full_disk_is_an_error_that_clears_by_itself() {
    let Some(disk) = SmallDisk::mount("48m") else {
        println!("skipped: mounting a small file system needs root");
        return;
    };
    for ingest_threshold_bytes in [64 << 10, usize::MAX] {
        fill_and_free(disk.directory.path(), ingest_threshold_bytes);
    }
}

/// Half a megabyte that does not compress.
fn epoch_writes(epoch: u32) -> WriteSet {
    let mut random = u64::from(epoch);
    let mut byte = || {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as u8
    };
    let mut writes = WriteSet::new();
    for n in 0..KEYS_PER_EPOCH {
        let value: Vec<u8> = (0..64 << 10).map(|_| byte()).collect();
        writes.put(
            TABLE.0,
            TABLE.1,
            &[epoch.to_be_bytes(), n.to_be_bytes()].concat(),
            &value,
        );
    }
    writes.put_meta(b"epoch", &epoch.to_be_bytes());
    writes
}

fn epoch_of(store: &Store) -> u32 {
    u32::from_be_bytes(
        store
            .get_meta(b"epoch")
            .unwrap()
            .unwrap()
            .try_into()
            .unwrap(),
    )
}

fn fill_and_free(disk: &Path, ingest_threshold_bytes: usize) {
    let ballast = disk.join("ballast");
    fs::write(&ballast, vec![1u8; 24 << 20]).unwrap();
    let path = disk.join(ingest_threshold_bytes.to_string());
    let memory = MemoryPlan {
        block_cache_bytes: 4 << 20,
        write_buffer_bytes: 2 << 20,
    };
    let options = StoreOptions {
        ingest_threshold_bytes,
        ..StoreOptions::new(&path, memory)
    };
    let store = Store::open(&options).unwrap();
    let fails = |epoch: &u32| match store.commit(&epoch_writes(*epoch), false) {
        Ok(_) => false,
        Err(error) => {
            assert!(
                matches!(error, StateError::DiskFull(_)) && error.is_retryable(),
                "{error}"
            );
            true
        }
    };
    let epoch = (1..200)
        .find(fails)
        .expect("the disk is smaller than 200 epochs");
    for _ in 0..3 {
        let start = Instant::now();
        assert!(fails(&epoch), "still full");
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "a commit must not wait for room"
        );
    }
    assert_eq!(epoch_of(&store), epoch - 1, "reads go on");
    fs::remove_file(&ballast).unwrap();
    let freed = Instant::now();
    while fails(&epoch) {
        assert!(
            freed.elapsed() < Duration::from_secs(60),
            "does not recover"
        );
        std::thread::sleep(Duration::from_millis(200));
    }
    println!("went on {:?} after there was room", freed.elapsed());
    store.commit(&epoch_writes(epoch + 1), true).unwrap();
    drop(store);
    let store = Store::open(&options).unwrap();
    assert_eq!(epoch_of(&store), epoch + 1);
    let mut scan = store.snapshot().scan(TABLE.0, TABLE.1, &KeyRange::all());
    let mut keys = 0;
    while let Some(chunk) = scan.next_chunk(100, 1 << 20).unwrap() {
        keys += chunk.keys.len();
    }
    assert_eq!(
        keys as u32,
        (epoch + 1) * KEYS_PER_EPOCH,
        "no epoch is missing"
    );
    drop((store, scan));
    fs::remove_dir_all(&path).unwrap();
}
