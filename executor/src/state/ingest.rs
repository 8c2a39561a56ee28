//! Large commits: sorted files that RocksDB takes over as they are, instead of a write batch that would be copied
//! twice in memory and once into the log.
//!
//! What an epoch has spilled (`spill.rs`) is merged with what it has in memory as the files are written, so that they
//! never overlap and a commit of any size needs little memory.
//!
//! 1. Write one or more sorted files per family into `ingest/`, fsynced.
//! 2. Write the record `INGEST` (synced): the names of the files, and the meta entries of the epoch.
//! 3. Ingest the files one after the other.
//! 4. One synced batch: the meta entries, and the record away. The epoch is committed.
//!
//! A crash before 2 leaves files that nobody names: they are deleted. A crash after 2 is completed when the database
//! is opened, before anybody reads it: a file that is still there is ingested (again, if need be: nothing was written
//! in between, so the second time changes nothing), one that is gone had been taken over; then step 4.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rocksdb::{IngestExternalFileOptions, SstFileWriter, WriteBatch};

use super::error::StateError;
use super::failpoint;
use super::layout::{Family, meta_key};
use super::log_write;
use super::open_db::{OpenDb, SharedMemory, family_options};
use super::store::StoreOptions;
use super::write_set::WriteSet;

/// A file is closed when it has grown to about this.
const TARGET_FILE_BYTES: u64 = 256 << 20;
const RECORD_VERSION: u8 = 1;

/// The durable description of a large commit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct IngestRecord {
    /// Family and name of each file, in the order of ingestion.
    pub(super) files: Vec<(Family, String)>,
    /// Name and new value (`None`: deleted) of the epoch's meta entries.
    pub(super) meta: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

/// Commits `writes` through files. After an error the same writes may be committed again.
pub(super) fn commit(
    db: &OpenDb,
    options: &StoreOptions,
    memory: &SharedMemory,
    writes: &WriteSet,
) -> Result<(), StateError> {
    complete_interrupted(db, options)?;
    let record = write_files(db, options, memory, writes)?;
    failpoint::hit(failpoint::INGEST_FILES_WRITTEN);
    log_write::write(db, true, || {
        let mut batch = WriteBatch::default();
        batch.put_cf(db.family(Family::Meta), meta_key::INGEST, record.encode());
        Ok(batch)
    })?;
    failpoint::hit(failpoint::INGEST_RECORDED);
    complete(db, options, &record)
}

/// Completes a large commit whose record is in the database, and deletes files that no record names.
pub(super) fn complete_interrupted(db: &OpenDb, options: &StoreOptions) -> Result<(), StateError> {
    if let Some(bytes) = db.db().get_cf(db.family(Family::Meta), meta_key::INGEST)? {
        complete(db, options, &IngestRecord::decode(&bytes)?)?;
    }
    let directory = options.ingest_path();
    fs::create_dir_all(&directory)?;
    for entry in fs::read_dir(&directory)? {
        fs::remove_file(entry?.path())?;
    }
    Ok(())
}

fn complete(db: &OpenDb, options: &StoreOptions, record: &IngestRecord) -> Result<(), StateError> {
    let mut ingest = IngestExternalFileOptions::default();
    ingest.set_move_files(true);
    for (family, name) in &record.files {
        let path = options.ingest_path().join(name);
        if path.exists() {
            db.db()
                .ingest_external_file_cf_opts(db.family(*family), &ingest, vec![&path])?;
            failpoint::hit(failpoint::INGEST_FILE_TAKEN);
        }
    }
    failpoint::hit(failpoint::INGEST_INGESTED);
    log_write::write(db, true, || {
        let meta = db.family(Family::Meta);
        let mut batch = WriteBatch::default();
        for (name, value) in &record.meta {
            match value {
                Some(value) => batch.put_cf(meta, name, value),
                None => batch.delete_cf(meta, name),
            }
        }
        batch.delete_cf(meta, meta_key::INGEST);
        Ok(batch)
    })?;
    failpoint::hit(failpoint::INGEST_PUBLISHED);
    Ok(())
}

/// Step 1. Everything but meta goes to files.
fn write_files(
    db: &OpenDb,
    options: &StoreOptions,
    memory: &SharedMemory,
    writes: &WriteSet,
) -> Result<IngestRecord, StateError> {
    let mut record = IngestRecord::default();
    let sequence = db.db().latest_sequence_number();
    for family in Family::ALL
        .into_iter()
        .filter(|family| *family != Family::Meta)
    {
        let file_options = family_options(family, options, memory);
        let next_path = |files: &mut Vec<(Family, String)>| -> PathBuf {
            let name = format!("{sequence:020}-{:04}-{}.sst", files.len(), family.name());
            let path = options.ingest_path().join(&name);
            files.push((family, name));
            path
        };
        let ranges = writes.ranges(family);
        if !ranges.is_empty() {
            let mut writer = SstFileWriter::create(&file_options);
            writer.open(next_path(&mut record.files))?;
            for (from, to) in &ranges {
                // Table id 2^32 − 1 is never given out, so that every prefix has an end.
                let to = to
                    .as_ref()
                    .ok_or_else(|| StateError::Bug("a range delete without an end".to_string()))?;
                writer.delete_range(from, to)?;
            }
            writer.finish()?;
        }
        write_points(&file_options, writes, family, || {
            next_path(&mut record.files)
        })?;
    }
    record.meta = writes
        .meta()
        .changes()
        .map(|(name, value)| (name.to_vec(), value.map(<[u8]>::to_vec)))
        .collect();
    sync_directory(&options.ingest_path())?;
    Ok(record)
}

fn write_points(
    file_options: &rocksdb::Options,
    writes: &WriteSet,
    family: Family,
    mut next_path: impl FnMut() -> PathBuf,
) -> Result<(), StateError> {
    let mut file: Option<SstFileWriter<'_>> = None;
    let mut written = 0u64;
    writes.for_each(family, &mut |key, value| {
        if written >= TARGET_FILE_BYTES
            && let Some(mut full) = file.take()
        {
            // Finishing fsyncs the file.
            full.finish()?;
        }
        let writer = match &mut file {
            Some(writer) => writer,
            None => {
                let new = SstFileWriter::create(file_options);
                new.open(next_path())?;
                written = 0;
                file.insert(new)
            }
        };
        match value {
            Some(value) => writer.put(key, value)?,
            None => writer.delete(key)?,
        }
        written += (key.len() + value.map_or(0, <[u8]>::len)) as u64;
        Ok(())
    })?;
    file.map_or(Ok(()), |mut last| Ok(last.finish()?))
}

fn sync_directory(path: &Path) -> Result<(), StateError> {
    Ok(File::open(path)?.sync_all()?)
}

impl IngestRecord {
    /// version 1 byte, number of files u32, per file: family u8, name; number of meta entries u32, per entry: 1 or
    /// 0 (deleted), name, value if any. Strings are length u32, bytes. All little-endian.
    pub(super) fn encode(&self) -> Vec<u8> {
        fn push(bytes: &[u8], out: &mut Vec<u8>) {
            out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
            out.extend_from_slice(bytes);
        }
        let mut out = vec![RECORD_VERSION];
        out.extend_from_slice(&(self.files.len() as u32).to_le_bytes());
        for (family, name) in &self.files {
            out.push(family.index() as u8);
            push(name.as_bytes(), &mut out);
        }
        out.extend_from_slice(&(self.meta.len() as u32).to_le_bytes());
        for (name, value) in &self.meta {
            out.push(u8::from(value.is_some()));
            push(name, &mut out);
            if let Some(value) = value {
                push(value, &mut out);
            }
        }
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, StateError> {
        fn take<'a>(rest: &mut &'a [u8], len: usize) -> Result<&'a [u8], StateError> {
            let damaged = || {
                StateError::Corrupt("the record of an interrupted commit is damaged".to_string())
            };
            let (taken, tail) = rest.split_at_checked(len).ok_or_else(damaged)?;
            *rest = tail;
            Ok(taken)
        }
        fn number(rest: &mut &[u8]) -> Result<usize, StateError> {
            let bytes = take(rest, 4)?;
            Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize)
        }
        fn string<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], StateError> {
            let len = number(rest)?;
            take(rest, len)
        }
        let mut rest = bytes;
        let mut record = Self::default();
        if take(&mut rest, 1)? != [RECORD_VERSION] {
            return Err(StateError::Corrupt(
                "the record of an interrupted commit has an unknown version".to_string(),
            ));
        }
        for _ in 0..number(&mut rest)? {
            let family = take(&mut rest, 1)?[0] as usize;
            let family = *Family::ALL.get(family).ok_or_else(|| {
                StateError::Corrupt(format!("an interrupted commit names family {family}"))
            })?;
            record.files.push((
                family,
                String::from_utf8_lossy(string(&mut rest)?).into_owned(),
            ));
        }
        for _ in 0..number(&mut rest)? {
            let is_put = take(&mut rest, 1)?[0] == 1;
            let name = string(&mut rest)?.to_vec();
            let value = if is_put {
                Some(string(&mut rest)?.to_vec())
            } else {
                None
            };
            record.meta.push((name, value));
        }
        Ok(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_bytes_are_golden_and_come_back() {
        let record = IngestRecord {
            files: vec![(Family::Views, "f".to_string())],
            meta: vec![(b"e".to_vec(), Some(b"7".to_vec())), (b"x".to_vec(), None)],
        };
        let bytes = record.encode();
        let expected: Vec<u8> = [
            &[1][..],
            &[1, 0, 0, 0, 3, 1, 0, 0, 0, b'f'],
            &[
                2, 0, 0, 0, 1, 1, 0, 0, 0, b'e', 1, 0, 0, 0, b'7', 0, 1, 0, 0, 0, b'x',
            ],
        ]
        .concat();
        assert_eq!(bytes, expected);
        assert_eq!(IngestRecord::decode(&bytes).unwrap(), record);
        for len in 0..bytes.len() {
            assert!(IngestRecord::decode(&bytes[..len]).is_err());
        }
    }
}
