//! `Client`: makes KeyPackages and groups, joins, loads, and hands out the log.

use std::sync::Arc;

use mls_rs::extension::ExtensionType;
use mls_rs::extension::recommended::LastResortKeyPackageExt;
use mls_rs::identity::SigningIdentity;
use mls_rs::identity::basic::BasicCredential;
use mls_rs::{ExtensionList, MlsMessage, MlsMessageDescription};
use pyo3::prelude::*;

use crate::authorize::Authorizer;
use crate::callback::{Callback, may_lock};
use crate::core::{Core, MlsGroup};
use crate::errors::{Fault, Kind, contained};
use crate::external;
use crate::group::Group;
use crate::identity::Validator;
use crate::inner::Inner;
use crate::ledger::Ledger;
use crate::pending::PendingCommit;
use crate::rules::Rules;
use crate::seal::Sealer;
use crate::stored;
use crate::suite;
use crate::values::{KeyPackage, LogEntry};
use crate::wire;

/// Two clocks may differ by this much: a KeyPackage is valid from this long before `now`.
const CLOCK_LEEWAY_S: u64 = 3600;

/// mls-rs wants a lifetime also where none is used.
pub const UNUSED_LIFETIME_S: u64 = 365 * 86_400;

/// A device: one signature key, one credential, both suites. Safe to share between threads.
#[pyclass(frozen, module = "mls_rs")]
pub struct Client {
    pub core: Arc<Core>,
}

#[pymethods]
impl Client {
    #[new]
    #[pyo3(signature = (*, signing_seed, credential, storage_key, validate_credential,
        authorize_commit=None, extension_types=Vec::new(), policy_extension=None),
        text_signature = "(*, signing_seed, credential, storage_key, validate_credential, authorize_commit=None, extension_types=(), policy_extension=None)")]
    fn new(
        signing_seed: &[u8],
        credential: Vec<u8>,
        storage_key: &[u8],
        validate_credential: Bound<'_, PyAny>,
        authorize_commit: Option<Bound<'_, PyAny>>,
        extension_types: Vec<u16>,
        policy_extension: Option<u16>,
    ) -> PyResult<Self> {
        let validator = Callback::new(&validate_credential, "validate_credential")?;
        let authorizer = authorize_commit
            .map(|callable| Callback::new(&callable, "authorize_commit"))
            .transpose()?;
        let (signer, public) = suite::signing_keys(signing_seed)?;
        let credential = BasicCredential::new(credential).into_credential();
        let identity = SigningIdentity::new(credential, public);
        let rules = Rules {
            policy: policy_extension.map(ExtensionType::new),
        };
        let sealer = Sealer::new(storage_key)?;
        let core = Core::new(
            sealer,
            identity,
            signer,
            Validator::new(validator),
            rules,
            Authorizer::new(authorizer),
            &extension_types,
        )?;
        Ok(Self {
            core: Arc::new(core),
        })
    }

    #[getter]
    fn signature_key(&self) -> Vec<u8> {
        self.core.identity.signature_key.to_vec()
    }

    /// Makes a KeyPackage; its private part goes to the log (and is kept for `join`).
    ///
    /// It is valid from one hour before `now`, because clocks differ, until `now + lifetime_s`.
    #[pyo3(signature = (suite, *, now, lifetime_s, last_resort=false))]
    fn key_package(
        &self,
        py: Python<'_>,
        suite: u16,
        now: u64,
        lifetime_s: u64,
        last_resort: bool,
    ) -> PyResult<KeyPackage> {
        Ok(py.detach(|| self.make_key_package(suite, now, lifetime_s, last_resort))?)
    }

    /// Gives back a stored "key-package-insert" blob, so that `join` can use it.
    fn restore_key_package(&self, py: Python<'_>, reference: &[u8], blob: &[u8]) -> PyResult<()> {
        Ok(py.detach(|| self.core.packages.restore(reference, blob))?)
    }

    #[pyo3(signature = (group_id, suite, extensions=Vec::new()),
        text_signature = "($self, group_id, suite, extensions=())")]
    fn create_group(
        &self,
        py: Python<'_>,
        group_id: Vec<u8>,
        suite: u16,
        extensions: Vec<(u16, Vec<u8>)>,
    ) -> PyResult<Group> {
        let run = || {
            may_lock()?;
            let suite = suite::from_argument(suite)?;
            let client = self
                .core
                .client(suite, self.core.store(), UNUSED_LIFETIME_S);
            let list = crate::core::extensions(extensions)?;
            self.core.rules.policy_of(&list)?;
            let group = client.create_group_with_id(group_id, list, ExtensionList::new(), None)?;
            Ok(self.fresh(group))
        };
        Ok(py.detach(|| contained(run))?)
    }

    /// Joins by Welcome. The KeyPackage is deleted (log) when the group is first saved.
    #[pyo3(signature = (welcome, *, tree=None))]
    fn join(&self, py: Python<'_>, welcome: &[u8], tree: Option<&[u8]>) -> PyResult<Group> {
        Ok(py.detach(|| contained(|| self.join_welcome(welcome, tree)))?)
    }

    /// Replaces this client's own old leaf by an external commit: the group and the commit.
    #[pyo3(signature = (group_info, *, tree=None, now))]
    fn rejoin(
        &self,
        py: Python<'_>,
        group_info: &[u8],
        tree: Option<&[u8]>,
        now: u64,
    ) -> PyResult<(Group, Vec<u8>)> {
        let run = || external::rejoin(&self.core, group_info, tree, now);
        Ok(py.detach(|| contained(run))?)
    }

    /// Keeps an external pre-shared key (RFC 9420 section 8.4) in memory, for commits and joins.
    fn add_psk(&self, id: Vec<u8>, psk: Vec<u8>) {
        self.core.psks.clone().insert(id.into(), psk.into());
    }

    /// Forgets a pre-shared key.
    fn remove_psk(&self, id: Vec<u8>) {
        self.core.psks.clone().delete(&id.into());
    }

    /// Loads a group from stored blobs; `epochs` are (epoch number, blob) pairs.
    #[pyo3(signature = (group_id, state, tree, epochs=Vec::new()),
        text_signature = "($self, group_id, state, tree, epochs=())")]
    fn load_group(
        &self,
        py: Python<'_>,
        group_id: &[u8],
        state: &[u8],
        tree: &[u8],
        epochs: Vec<(u64, Vec<u8>)>,
    ) -> PyResult<Group> {
        let run = || stored::load(&self.core, group_id, state, tree, &epochs);
        let inner = py.detach(|| contained(run))?;
        Ok(Group::new(self.core.clone(), inner))
    }

    fn open_pending_commit(&self, py: Python<'_>, blob: &[u8]) -> PyResult<PendingCommit> {
        Ok(py.detach(|| PendingCommit::open(&self.core, blob))?)
    }

    /// Every write since the last call, in order.
    fn take_log(&self, py: Python<'_>) -> PyResult<Vec<LogEntry>> {
        Ok(py.detach(|| self.core.take_log())?)
    }
}

impl Client {
    fn fresh(&self, group: MlsGroup) -> Group {
        let ledger = Ledger::begin(group.context().epoch());
        Group::new(self.core.clone(), Inner::new(group, true, None, ledger))
    }

    fn make_key_package(
        &self,
        suite: u16,
        now: u64,
        lifetime_s: u64,
        last_resort: bool,
    ) -> Result<KeyPackage, Fault> {
        let suite = suite::from_argument(suite)?;
        let not_before = now.saturating_sub(CLOCK_LEEWAY_S);
        // Both ends must be times that mls-rs and Python can hold.
        let length = now
            .checked_add(lifetime_s)
            .filter(|end| *end <= i64::MAX as u64)
            .map(|end| end - not_before)
            .ok_or_else(|| Fault::argument("the lifetime ends too late".into()))?;
        let mut list = ExtensionList::new();
        if last_resort {
            list.set_from(LastResortKeyPackageExt)
                .map_err(mls_rs::error::MlsError::from)?;
        }
        let client = self.core.client(suite, self.core.store(), length);
        let generate = || {
            Ok(client.generate_key_package_message(
                list,
                ExtensionList::new(),
                Some(not_before.into()),
            )?)
        };
        let message: MlsMessage = self.core.record(true, Vec::new(), generate, |_| None)?;
        let crypto = suite::implementation(suite)
            .ok_or_else(|| Fault::new(Kind::Other, "internal", "cipher suite"))?;
        let reference = message
            .key_package_reference(&crypto)?
            .ok_or_else(|| Fault::new(Kind::Other, "internal", "not a KeyPackage"))?;
        Ok(KeyPackage {
            message: message.to_bytes()?,
            reference: reference.to_vec(),
        })
    }

    fn join_welcome(&self, welcome: &[u8], tree: Option<&[u8]>) -> Result<Group, Fault> {
        may_lock()?;
        let message = wire::parse(welcome)?;
        let MlsMessageDescription::Welcome { cipher_suite, .. } = message.description() else {
            return Err(Fault::decode("unexpected-message", "not a Welcome"));
        };
        if suite::implementation(cipher_suite).is_none() {
            return Err(Fault::decode(
                "unsupported-suite",
                "a cipher suite unknown here",
            ));
        }
        let tree = tree.map(wire::parse_tree).transpose()?;
        let client = self
            .core
            .client(cipher_suite, self.core.store(), UNUSED_LIFETIME_S);
        let (group, joined) = client.join_group(tree, &message, None)?;
        self.core.rules.policy_of(group.context().extensions())?;
        Ok(self.fresh(group).invited_by(joined.sender))
    }
}
