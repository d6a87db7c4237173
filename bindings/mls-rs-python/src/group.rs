//! `Group`: one lock per group, and when the interpreter is let go.

use std::sync::{Arc, Mutex, TryLockError};

use mls_rs::MlsMessageDescription;
use mls_rs::extension::ExtensionType;
use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::callback::may_lock;
use crate::core::Core;
use crate::errors::{Fault, contained};
use crate::identity::basic;
use crate::inner::{Inner, Processed};
use crate::pending::{self, Order, PendingCommit};
use crate::storage::lock;
use crate::stored;
use crate::values::{Commit, Member};
use crate::wire;

/// RFC 9420 section 8: KDF.Expand yields up to 255 hashes of 32 bytes.
const EXPORT_LIMIT: usize = 255 * 32;

/// One member's view of one group. Operations either succeed or leave it as it was.
#[pyclass(frozen, module = "mls_rs")]
pub struct Group {
    core: Arc<Core>,
    inner: Mutex<Inner>,
    /// The leaf that made the commit by whose Welcome this client joined.
    inviter: Option<u32>,
}

#[pymethods]
impl Group {
    #[getter]
    fn group_id(&self, py: Python<'_>) -> PyResult<Vec<u8>> {
        self.quick(py, |inner| Ok(inner.group.group_id().to_vec()))
    }

    #[getter]
    fn epoch(&self, py: Python<'_>) -> PyResult<u64> {
        self.quick(py, |inner| Ok(inner.group.context().epoch()))
    }

    #[getter]
    fn suite(&self, py: Python<'_>) -> PyResult<u16> {
        self.quick(py, |inner| Ok(inner.group.cipher_suite().into()))
    }

    #[getter]
    fn active(&self, py: Python<'_>) -> PyResult<bool> {
        self.quick(py, |inner| Ok(inner.active))
    }

    #[getter]
    fn own_index(&self, py: Python<'_>) -> PyResult<u32> {
        self.quick(py, |inner| Ok(inner.group.current_member_index()))
    }

    #[getter]
    fn inviter_index(&self) -> Option<u32> {
        self.inviter
    }

    #[getter]
    fn epoch_authenticator(&self, py: Python<'_>) -> PyResult<Vec<u8>> {
        self.quick(py, |inner| Ok(inner.group.epoch_authenticator()?.to_vec()))
    }

    /// RFC 9420 section 7.8.
    #[getter]
    fn tree_hash(&self, py: Python<'_>) -> PyResult<Vec<u8>> {
        self.quick(py, |inner| Ok(inner.group.context().tree_hash.to_vec()))
    }

    /// Message keys kept for messages that were skipped: at most 4,096 per epoch, 1,024 per sender.
    #[getter]
    fn skipped_keys(&self, py: Python<'_>) -> PyResult<usize> {
        self.quick(py, |inner| Ok(inner.ledger.skipped()))
    }

    /// Skipped keys that were dropped beyond those caps, oldest first; their messages are lost.
    #[getter]
    fn dropped_keys(&self, py: Python<'_>) -> PyResult<u64> {
        self.quick(py, |inner| Ok(inner.ledger.dropped))
    }

    fn roster(&self, py: Python<'_>) -> PyResult<Vec<Member>> {
        self.quick(py, |inner| {
            Ok(inner
                .group
                .roster()
                .members_iter()
                .map(Member::from)
                .collect())
        })
    }

    /// The member with this signature key; a dictionary is made once per epoch.
    fn find_member(&self, py: Python<'_>, signature_key: &[u8]) -> PyResult<Option<Member>> {
        self.quick(py, |inner| Ok(inner.find(signature_key)))
    }

    /// The members with exactly these credential bytes, by leaf index.
    fn find_members(&self, py: Python<'_>, credential: &[u8]) -> PyResult<Vec<Member>> {
        self.quick(py, |inner| {
            let members = inner.group.roster().members_iter();
            Ok(members
                .filter(|member| basic(member.signing_identity()) == Some(credential))
                .map(Member::from)
                .collect())
        })
    }

    /// A group-context extension's data.
    fn extension(&self, py: Python<'_>, extension_type: u16) -> PyResult<Option<Vec<u8>>> {
        self.quick(py, |inner| {
            let found = inner
                .group
                .context()
                .extensions()
                .get(ExtensionType::new(extension_type));
            Ok(found.map(|extension| extension.extension_data().to_vec()))
        })
    }

    /// RFC 9420 section 8.5.
    fn export_secret<'py>(
        &self,
        py: Python<'py>,
        label: &[u8],
        context: &[u8],
        length: usize,
    ) -> PyResult<Bound<'py, PyBytes>> {
        if !(1..=EXPORT_LIMIT).contains(&length) {
            return Err(Fault::argument(format!("length must be 1 to {EXPORT_LIMIT}")).into());
        }
        let secret = self.quick(py, |inner| {
            Ok(inner.live()?.export_secret(label, context, length)?)
        })?;
        Ok(PyBytes::new(py, secret.as_bytes()))
    }

    fn ratchet_tree(&self, py: Python<'_>) -> PyResult<Vec<u8>> {
        self.slow(py, |inner| Ok(inner.group.export_tree().to_bytes()?))
    }

    /// A GroupInfo for `Client.rejoin`; it opens the group to nobody else.
    #[pyo3(signature = (*, tree=true))]
    fn group_info(&self, py: Python<'_>, tree: bool) -> PyResult<Vec<u8>> {
        self.slow(py, |inner| {
            let group = inner.live()?;
            Ok(group
                .group_info_message_allowing_ext_commit(tree)?
                .to_bytes()?)
        })
    }

    /// An application message as an MLSMessage holding a PrivateMessage.
    #[pyo3(signature = (plaintext, authenticated_data=Vec::new()),
        text_signature = "($self, plaintext, authenticated_data=b'')")]
    fn encrypt(
        &self,
        py: Python<'_>,
        plaintext: &[u8],
        authenticated_data: Vec<u8>,
    ) -> PyResult<Vec<u8>> {
        self.quick(py, |inner| inner.encrypt(plaintext, authenticated_data))
    }

    /// The generation that the next `encrypt` of this epoch uses (RFC 9420 section 9.1).
    #[getter]
    fn next_generation(&self, py: Python<'_>) -> PyResult<u32> {
        self.quick(py, |inner| Ok(inner.live()?.peek_next_key_generation()?))
    }

    /// Skips forward, so that the next `encrypt` uses `generation`; skipped keys are erased.
    ///
    /// For a caller who stored ciphertext and `next_generation` of each message but not the state.
    /// Raises KeyUnavailable: "generation-used" behind, "generation-too-far" beyond 1,048,576 ahead.
    fn skip_to_generation(&self, py: Python<'_>, generation: u32) -> PyResult<()> {
        self.slow(py, |inner| inner.skip_to(generation))
    }

    /// A commit by value with an update path, detached: the group stays as it is.
    ///
    /// `add` holds KeyPackage messages, `remove` leaf indices, `extensions` the whole new list of
    /// group-context extensions, `psk` ids of pre-shared keys. `now` (Unix seconds) is held against the lifetimes of the
    /// KeyPackages added.
    #[pyo3(signature = (*, add=Vec::new(), remove=Vec::new(), extensions=None,
        psk=Vec::new(), authenticated_data=Vec::new(), tree_in_welcome=true, now),
        text_signature = "($self, *, add=(), remove=(), extensions=None, psk=(), authenticated_data=b'', tree_in_welcome=True, now)")]
    #[allow(clippy::too_many_arguments)]
    fn commit(
        &self,
        py: Python<'_>,
        add: Vec<Vec<u8>>,
        remove: Vec<u32>,
        extensions: Option<Vec<(u16, Vec<u8>)>>,
        psk: Vec<Vec<u8>>,
        authenticated_data: Vec<u8>,
        tree_in_welcome: bool,
        now: u64,
    ) -> PyResult<PendingCommit> {
        let order = Order {
            add,
            remove,
            extensions,
            psk,
            authenticated_data,
            tree_in_welcome,
            now,
        };
        self.slow(py, |inner| pending::build(&self.core, inner.live()?, order))
    }

    /// Moves to the epoch of one's own commit. Raises StaleCommit on another base.
    fn apply(&self, py: Python<'_>, pending: &PendingCommit) -> PyResult<Commit> {
        self.slow(py, |inner| inner.apply(&self.core, pending))
    }

    /// Processes one message of this group on a clone, and replaces the group on success.
    fn process<'py>(&self, py: Python<'py>, message: &[u8]) -> PyResult<Bound<'py, PyAny>> {
        let parsed = wire::parse(message)?;
        let secret = matches!(
            parsed.description(),
            MlsMessageDescription::PrivateProtocolMessage { .. }
        );
        let run = |inner: &mut Inner| inner.process(&self.core, parsed);
        let done = if secret {
            self.quick(py, run)?
        } else {
            self.slow(py, run)?
        };
        value(py, done)
    }

    /// Processes messages in order, each as `process` would; an error is a value in the list.
    fn process_many<'py>(
        &self,
        py: Python<'py>,
        messages: Vec<Vec<u8>>,
    ) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let done = self.slow(py, |inner| {
            let one = |bytes: &Vec<u8>| {
                let parsed = wire::parse(bytes)?;
                contained(|| inner.process(&self.core, parsed))
            };
            Ok(messages.iter().map(one).collect::<Vec<_>>())
        })?;
        done.into_iter()
            .map(|one| match one {
                Ok(done) => value(py, done),
                Err(fault) => fault.into_value(py),
            })
            .collect()
    }

    fn clone(&self, py: Python<'_>) -> PyResult<Self> {
        let copy = self.slow(py, |inner| Ok(inner.copy()))?;
        Ok(Self {
            core: self.core.clone(),
            inner: Mutex::new(copy),
            inviter: self.inviter,
        })
    }

    /// Appends this group's writes to the client's log.
    ///
    /// The tree is written when the epoch changed since the last save, or as `tree` says.
    #[pyo3(signature = (*, tree=None))]
    fn save(&self, py: Python<'_>, tree: Option<bool>) -> PyResult<()> {
        self.slow(py, |inner| stored::save(&self.core, inner, tree))
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        self.quick(py, |inner| {
            let (epoch, own) = (
                inner.group.context().epoch(),
                inner.group.current_member_index(),
            );
            Ok(format!(
                "Group(epoch={epoch}, own_index={own}, active={})",
                inner.active
            ))
        })
    }
}

impl Group {
    pub fn new(core: Arc<Core>, inner: Inner) -> Self {
        Self {
            core,
            inner: Mutex::new(inner),
            inviter: None,
        }
    }

    pub fn invited_by(self, leaf: u32) -> Self {
        Self {
            inviter: Some(leaf),
            ..self
        }
    }

    /// For work of microseconds: holds on to the interpreter unless another thread has the group.
    fn quick<R: Send>(
        &self,
        py: Python<'_>,
        run: impl FnOnce(&mut Inner) -> Result<R, Fault> + Send,
    ) -> PyResult<R> {
        may_lock()?;
        let mut inner = match self.inner.try_lock() {
            Ok(inner) => inner,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return self.slow(py, run),
        };
        Ok(contained(|| run(&mut inner))?)
    }

    /// Lets other Python threads run. No thread ever waits for a group while it holds the
    /// interpreter, so a callback can always get it.
    fn slow<R: Send>(
        &self,
        py: Python<'_>,
        run: impl FnOnce(&mut Inner) -> Result<R, Fault> + Send,
    ) -> PyResult<R> {
        may_lock()?;
        Ok(py.detach(|| contained(|| run(&mut lock(&self.inner))))?)
    }
}

fn value(py: Python<'_>, done: Processed) -> PyResult<Bound<'_, PyAny>> {
    match done {
        Processed::Message(message) => message.into_bound_py_any(py),
        Processed::Commit(commit) => commit.into_bound_py_any(py),
    }
}
