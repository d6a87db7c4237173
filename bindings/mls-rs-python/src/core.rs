//! What a client and all its groups share: keys, sealing, KeyPackages, and the log.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mls_rs::client_builder::{
    BaseConfig, ClientBuilder, WithCryptoProvider, WithGroupStateStorage, WithIdentityProvider,
    WithKeyPackageRepo, WithMlsRules,
};
use mls_rs::crypto::SignatureSecretKey;
use mls_rs::extension::ExtensionType;
use mls_rs::identity::SigningIdentity;
use mls_rs::mls_rs_codec::MlsEncode;
use mls_rs::storage_provider::in_memory::InMemoryPreSharedKeyStorage;
use mls_rs::{CipherSuite, Client, Extension, ExtensionList};
use mls_rs_crypto_awslc::AwsLcCryptoProvider;

use crate::authorize::Authorizer;
use crate::callback::may_lock;
use crate::errors::Fault;
use crate::identity::Validator;
use crate::rules::Rules;
use crate::seal::{Sealer, What};
use crate::storage::{Journal, Packages, Store, lock};
use crate::suite;
use crate::values::LogEntry;

pub type Config = WithMlsRules<
    Rules,
    WithIdentityProvider<
        Validator,
        WithCryptoProvider<
            AwsLcCryptoProvider,
            WithGroupStateStorage<Store, WithKeyPackageRepo<Packages, BaseConfig>>,
        >,
    >,
>;
pub type MlsClient = Client<Config>;
pub type MlsGroup = mls_rs::Group<Config>;

pub struct Core {
    pub sealer: Arc<Sealer>,
    pub packages: Packages,
    pub identity: SigningIdentity,
    signer: SignatureSecretKey,
    validator: Validator,
    pub rules: Rules,
    pub authorizer: Authorizer,
    pub psks: InMemoryPreSharedKeyStorage,
    pub extension_types: Vec<ExtensionType>,
    journal: Arc<Mutex<Journal>>,
    log: Mutex<Vec<LogEntry>>,
    /// Tree hash of the last "tree" entry of each group.
    trees: Mutex<HashMap<Vec<u8>, Vec<u8>>>,
}

impl Core {
    pub fn new(
        sealer: Sealer,
        identity: SigningIdentity,
        signer: SignatureSecretKey,
        validator: Validator,
        rules: Rules,
        authorizer: Authorizer,
        extension_types: &[u16],
    ) -> Result<Self, Fault> {
        let sealer = Arc::new(sealer);
        let journal = Journal {
            signer: signer.mls_encode_to_vec()?.into(),
            ..Journal::default()
        };
        let journal = Arc::new(Mutex::new(journal));
        Ok(Self {
            packages: Packages::new(sealer.clone(), journal.clone()),
            extension_types: extension_types
                .iter()
                .copied()
                .map(ExtensionType::new)
                // RFC 9420 section 10: what a KeyPackage carries, its leaf must list.
                .chain([ExtensionType::LAST_RESORT_KEY_PACKAGE])
                .chain(rules.policy)
                .collect(),
            sealer,
            identity,
            signer,
            validator,
            rules,
            authorizer,
            psks: InMemoryPreSharedKeyStorage::default(),
            journal,
            log: Mutex::default(),
            trees: Mutex::default(),
        })
    }

    pub fn store(&self) -> Store {
        Store::new(self.sealer.clone(), self.journal.clone())
    }

    /// An mls-rs client around one store; the groups it makes own that store.
    pub fn client(&self, suite: CipherSuite, store: Store, lifetime_s: u64) -> MlsClient {
        ClientBuilder::new()
            .key_package_repo(self.packages.clone())
            .group_state_storage(store)
            .crypto_provider(suite::provider())
            .identity_provider(self.validator.clone())
            .psk_store(self.psks.clone())
            .mls_rules(self.rules.clone())
            .extension_types(self.extension_types.iter().copied())
            .key_package_lifetime(Duration::from_secs(lifetime_s))
            .signing_identity(self.identity.clone(), self.signer.clone(), suite)
            .build()
    }

    /// Runs an operation that writes, and appends its writes to the log together, if it succeeds.
    /// The operation must not call Python.
    pub fn record<R>(
        &self,
        active: bool,
        ledger: Vec<u8>,
        write: impl FnOnce() -> Result<R, Fault>,
        extra: impl FnOnce(&R) -> Option<LogEntry>,
    ) -> Result<R, Fault> {
        may_lock()?;
        let mut log = lock(&self.log);
        {
            let mut journal = lock(&self.journal);
            journal.entries.clear();
            journal.active = active;
            journal.ledger = ledger;
        }
        let result = write()?;
        let mut entries = std::mem::take(&mut lock(&self.journal).entries);
        if let Some(entry) = extra(&result) {
            entries.insert(entries.len().min(1), entry);
        }
        log.append(&mut entries);
        Ok(result)
    }

    pub fn take_log(&self) -> Result<Vec<LogEntry>, Fault> {
        may_lock()?;
        Ok(std::mem::take(&mut *lock(&self.log)))
    }

    pub fn tree_written(&self, group_id: &[u8], tree_hash: &[u8]) -> bool {
        lock(&self.trees)
            .get(group_id)
            .is_some_and(|last| last == tree_hash)
    }

    pub fn set_tree_written(&self, group_id: &[u8], tree_hash: &[u8]) {
        lock(&self.trees).insert(group_id.to_vec(), tree_hash.to_vec());
    }

    /// The tree carries the hash that the state knows it by, so that rows of different epochs are
    /// not put together.
    pub fn seal_tree(&self, group_id: &[u8], hash: &[u8], tree: &[u8]) -> Result<Vec<u8>, Fault> {
        let mut plaintext = (hash.len() as u64).to_be_bytes().to_vec();
        plaintext.extend_from_slice(hash);
        plaintext.extend_from_slice(tree);
        self.sealer.seal(What::Tree, group_id, b"", &plaintext)
    }

    /// The tree hash and the tree of a "tree" blob.
    pub fn open_tree(&self, group_id: &[u8], blob: &[u8]) -> Result<(Vec<u8>, Vec<u8>), Fault> {
        let plaintext = self.sealer.open(What::Tree, group_id, b"", blob)?;
        let split = || {
            let (length, rest) = plaintext.split_first_chunk::<8>()?;
            rest.split_at_checked(usize::try_from(u64::from_be_bytes(*length)).ok()?)
        };
        let (hash, tree) = split().ok_or_else(crate::storage::wrong_layout)?;
        Ok((hash.to_vec(), tree.to_vec()))
    }
}

/// An extension list, each type once.
pub fn extensions(given: Vec<(u16, Vec<u8>)>) -> Result<ExtensionList, Fault> {
    let mut list = ExtensionList::new();
    for (extension_type, data) in given {
        let extension_type = ExtensionType::new(extension_type);
        if list.has_extension(extension_type) {
            return Err(Fault::argument("an extension type occurs twice".into()));
        }
        list.set(Extension::new(extension_type, data));
    }
    Ok(list)
}
