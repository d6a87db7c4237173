//! The storage that mls-rs sees: memory, and a journal of sealed writes.
//!
//! A `Store` belongs to one `Group` object: a clone of the group gets its own copy of the epoch
//! records, so a clone that is dropped leaves no trace. KeyPackages belong to the client.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mls_rs::mls_rs_codec::{MlsDecode, MlsEncode};
use mls_rs::storage_provider::KeyPackageData;
use mls_rs::{GroupStateStorage, KeyPackageStorage};
use mls_rs_core::group::{EpochRecord, GroupState};
use zeroize::Zeroizing;

use crate::errors::{Fault, Kind};
use crate::ledger::Ledger;
use crate::seal::{Sealer, What};
use crate::values::{EntryId, LogEntry};

/// Prior epochs whose secrets stay in memory.
pub const EPOCHS_IN_MEMORY: usize = 16;

type Secret = Arc<Zeroizing<Vec<u8>>>;

/// Entries of the operation that is running; `core::Core::record` empties it.
#[derive(Default)]
pub struct Journal {
    pub entries: Vec<LogEntry>,
    /// Goes into the sealed state: mls-rs itself does not remember that we were removed.
    pub active: bool,
    /// Goes into the sealed state: `ledger::Ledger`.
    pub ledger: Vec<u8>,
    /// The suffix of mls-rs's snapshot that is not stored: the client has it anyway.
    pub signer: Zeroizing<Vec<u8>>,
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Clone)]
pub struct Store {
    sealer: Arc<Sealer>,
    journal: Arc<Mutex<Journal>>,
    state: Option<Secret>,
    epochs: BTreeMap<u64, Secret>,
}

const ACTIVE: u8 = 1;
const WITHOUT_SIGNER: u8 = 2;
/// Blobs of version 1 have none.
const WITH_LEDGER: u8 = 4;

impl Store {
    pub fn new(sealer: Arc<Sealer>, journal: Arc<Mutex<Journal>>) -> Self {
        Self {
            sealer,
            journal,
            state: None,
            epochs: BTreeMap::new(),
        }
    }

    /// Opens a "state" blob; returns whether the group is active, and its account of skipped keys.
    pub fn restore_state(
        &mut self,
        group_id: &[u8],
        blob: &[u8],
    ) -> Result<(bool, Option<Ledger>), Fault> {
        let plaintext = self.sealer.open(What::State, group_id, b"", blob)?;
        let (flags, mut rest) = plaintext.split_first().ok_or_else(wrong_layout)?;
        let mut ledger = None;
        if flags & WITH_LEDGER != 0 {
            let (length, after) = rest.split_first_chunk().ok_or_else(wrong_layout)?;
            let (bytes, after) = after
                .split_at_checked(u32::from_be_bytes(*length) as usize)
                .ok_or_else(wrong_layout)?;
            ledger = Some(Ledger::decode(bytes).ok_or_else(wrong_layout)?);
            rest = after;
        }
        let journal = lock(&self.journal);
        let signer = match flags & WITHOUT_SIGNER {
            0 => &[],
            _ => journal.signer.as_slice(),
        };
        // Grown in place, a vector would leave a copy of the secrets behind.
        let mut snapshot = Zeroizing::new(Vec::with_capacity(rest.len() + signer.len()));
        snapshot.extend_from_slice(rest);
        snapshot.extend_from_slice(signer);
        drop(journal);
        self.state = Some(Arc::new(snapshot));
        Ok((flags & ACTIVE != 0, ledger))
    }

    pub fn restore_epoch(&mut self, group_id: &[u8], epoch: u64, blob: &[u8]) -> Result<(), Fault> {
        let id = epoch.to_be_bytes();
        let record = self.sealer.open(What::Epoch, group_id, &id, blob)?;
        self.remember(epoch, Arc::new(record));
        Ok(())
    }

    fn remember(&mut self, epoch: u64, record: Secret) {
        self.epochs.insert(epoch, record);
        while self.epochs.len() > EPOCHS_IN_MEMORY {
            self.epochs.pop_first();
        }
    }

    fn seal_epoch(&self, group_id: &[u8], record: &EpochRecord) -> Result<Vec<u8>, Fault> {
        let id = record.id.to_be_bytes();
        self.sealer.seal(What::Epoch, group_id, &id, &record.data)
    }
}

pub fn wrong_layout() -> Fault {
    Fault::new(
        Kind::Blob,
        "layout",
        "the blob is genuine but does not decode",
    )
}

impl GroupStateStorage for Store {
    type Error = Fault;

    fn state(&self, _group_id: &[u8]) -> Result<Option<Zeroizing<Vec<u8>>>, Fault> {
        Ok(self.state.as_deref().cloned())
    }

    fn epoch(&self, _group_id: &[u8], epoch: u64) -> Result<Option<Zeroizing<Vec<u8>>>, Fault> {
        Ok(self.epochs.get(&epoch).map(|record| (**record).clone()))
    }

    /// All or nothing: seals everything first.
    fn write(
        &mut self,
        state: GroupState,
        inserts: Vec<EpochRecord>,
        updates: Vec<EpochRecord>,
    ) -> Result<(), Fault> {
        let group_id = state.id;
        let journal = self.journal.clone();
        let mut journal = lock(&journal);
        let (mut flags, mut snapshot) = (WITH_LEDGER, state.data.as_slice());
        if journal.active {
            flags |= ACTIVE;
        }
        if let Some(rest) = snapshot.strip_suffix(journal.signer.as_slice()) {
            flags |= WITHOUT_SIGNER;
            snapshot = rest;
        }
        let ledger = &journal.ledger;
        let length = u32::try_from(ledger.len()).map_err(|_| wrong_layout())?;
        let size = 1 + 4 + ledger.len() + snapshot.len();
        let mut plaintext = Zeroizing::new(Vec::with_capacity(size));
        plaintext.push(flags);
        plaintext.extend_from_slice(&length.to_be_bytes());
        plaintext.extend_from_slice(ledger);
        plaintext.extend_from_slice(snapshot);
        let data = self.sealer.seal(What::State, &group_id, b"", &plaintext)?;
        let mut entries = vec![LogEntry::new("state", Some(&group_id), None, Some(data))];
        for (kind, records) in [("epoch-insert", &inserts), ("epoch-update", &updates)] {
            for record in records {
                let data = self.seal_epoch(&group_id, record)?;
                let id = EntryId::Epoch(record.id);
                entries.push(LogEntry::new(kind, Some(&group_id), Some(id), Some(data)));
            }
        }
        journal.entries.append(&mut entries);
        drop(journal);
        for record in inserts {
            self.remember(record.id, Arc::new(record.data));
        }
        for record in updates {
            if let Some(slot) = self.epochs.get_mut(&record.id) {
                *slot = Arc::new(record.data);
            }
        }
        Ok(())
    }

    /// Always None: mls-rs would compare it with the next epoch, and a caller may give back any
    /// selection of stored epochs.
    fn max_epoch_id(&self, _group_id: &[u8]) -> Result<Option<u64>, Fault> {
        Ok(None)
    }
}

/// The client's KeyPackages with their private parts.
#[derive(Clone)]
pub struct Packages {
    sealer: Arc<Sealer>,
    journal: Arc<Mutex<Journal>>,
    all: Arc<Mutex<HashMap<Vec<u8>, KeyPackageData>>>,
}

impl Packages {
    pub fn new(sealer: Arc<Sealer>, journal: Arc<Mutex<Journal>>) -> Self {
        Self {
            sealer,
            journal,
            all: Arc::default(),
        }
    }

    pub fn restore(&self, reference: &[u8], blob: &[u8]) -> Result<(), Fault> {
        let plaintext = self.sealer.open(What::KeyPackage, b"", reference, blob)?;
        let data =
            KeyPackageData::mls_decode(&mut plaintext.as_slice()).map_err(|_| wrong_layout())?;
        self.put(reference, data);
        Ok(())
    }

    /// In memory only, without a log entry.
    pub fn put(&self, reference: &[u8], data: KeyPackageData) {
        lock(&self.all).insert(reference.to_vec(), data);
    }
}

impl KeyPackageStorage for Packages {
    type Error = Fault;

    fn delete(&mut self, reference: &[u8]) -> Result<(), Fault> {
        if lock(&self.all).remove(reference).is_some() {
            let id = EntryId::Reference(reference.to_vec());
            let entry = LogEntry::new("key-package-delete", None, Some(id), None);
            lock(&self.journal).entries.push(entry);
        }
        Ok(())
    }

    fn insert(&mut self, reference: Vec<u8>, data: KeyPackageData) -> Result<(), Fault> {
        let plaintext = Zeroizing::new(data.mls_encode_to_vec()?);
        let blob = self
            .sealer
            .seal(What::KeyPackage, b"", &reference, &plaintext)?;
        self.put(&reference, data);
        let id = EntryId::Reference(reference);
        let entry = LogEntry::new("key-package-insert", None, Some(id), Some(blob));
        lock(&self.journal).entries.push(entry);
        Ok(())
    }

    fn get(&self, reference: &[u8]) -> Result<Option<KeyPackageData>, Fault> {
        Ok(lock(&self.all).get(reference).cloned())
    }
}
