//! `Group` and `PendingCommit`: one lock per group, and clones to fall back on.

use std::sync::{Arc, Mutex, TryLockError};

use mls_rs::extension::ExtensionType;
use mls_rs::group::{CommitEffect, CommitMessageDescription, ReceivedMessage};
use mls_rs::{CipherSuite, MlsMessage, MlsMessageDescription};
use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;

use crate::core::{Core, MlsGroup, may_lock};
use crate::describe;
use crate::errors::{Fault, Kind, contained};
pub use crate::pending::PendingCommit;
use crate::pending::{self, Order};
use crate::storage::{lock, wrong_layout};
use crate::suite;
use crate::values::{Commit, LogEntry, Member, Message};
use crate::wire;

/// RFC 9420 section 8: KDF.Expand yields up to 255 hashes of 32 bytes.
const EXPORT_LIMIT: usize = 255 * 32;

/// Own generations skipped by one call: about 1.5 s of key derivation.
const SKIP_LIMIT: u32 = 1 << 20;

#[derive(Clone)]
struct Inner {
    group: MlsGroup,
    active: bool,
    /// Tree hash of the "tree" entry that this object wrote or was loaded from.
    stored_tree: Option<Vec<u8>>,
}

impl Inner {
    fn live(&mut self) -> Result<&mut MlsGroup, Fault> {
        if self.active {
            Ok(&mut self.group)
        } else {
            Err(Fault::not_active())
        }
    }
}

/// One member's view of one group. Operations either succeed or leave it as it was.
#[pyclass(frozen, module = "mls_rs")]
pub struct Group {
    core: Arc<Core>,
    inner: Mutex<Inner>,
    /// The leaf that made the commit by whose Welcome this client joined.
    inviter: Option<u32>,
}

enum Processed {
    Message(Message),
    Commit(Commit),
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
    fn export_secret(
        &self,
        py: Python<'_>,
        label: &[u8],
        context: &[u8],
        length: usize,
    ) -> PyResult<Vec<u8>> {
        if !(1..=EXPORT_LIMIT).contains(&length) {
            return Err(Fault::argument(format!("length must be 1 to {EXPORT_LIMIT}")).into());
        }
        self.quick(py, |inner| {
            Ok(inner
                .live()?
                .export_secret(label, context, length)?
                .to_vec())
        })
    }

    fn ratchet_tree(&self, py: Python<'_>) -> PyResult<Vec<u8>> {
        self.slow(py, |inner| Ok(inner.group.export_tree().to_bytes()?))
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
        self.quick(py, |inner| {
            let group = inner.live()?;
            Ok(group
                .encrypt_application_message(plaintext, authenticated_data)?
                .to_bytes()?)
        })
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
        self.slow(py, |inner| {
            let group = inner.live()?;
            let next = group.peek_next_key_generation()?;
            let Some(ahead) = generation.checked_sub(next) else {
                let text = format!("generation {generation}, the next unused one is {next}");
                return Err(Fault::new(Kind::KeyUnavailable, "generation-used", text));
            };
            if ahead > SKIP_LIMIT {
                let text = format!("{ahead} generations ahead, the limit is {SKIP_LIMIT}");
                return Err(Fault::new(Kind::KeyUnavailable, "generation-too-far", text));
            }
            for _ in 0..ahead {
                group.next_encryption_key()?;
            }
            Ok(())
        })
    }

    /// A commit by value with an update path, detached: the group stays as it is.
    ///
    /// `add` holds KeyPackage messages, `remove` leaf indices, `extensions` the whole new list of
    /// group-context extensions. `now` (Unix seconds) is held against the lifetimes of the
    /// KeyPackages added.
    #[pyo3(signature = (*, add=Vec::new(), remove=Vec::new(), extensions=None,
        authenticated_data=Vec::new(), tree_in_welcome=true, now),
        text_signature = "($self, *, add=(), remove=(), extensions=None, authenticated_data=b'', tree_in_welcome=True, now)")]
    #[allow(clippy::too_many_arguments)]
    fn commit(
        &self,
        py: Python<'_>,
        add: Vec<Vec<u8>>,
        remove: Vec<u32>,
        extensions: Option<Vec<(u16, Vec<u8>)>>,
        authenticated_data: Vec<u8>,
        tree_in_welcome: bool,
        now: u64,
    ) -> PyResult<PendingCommit> {
        let order = Order {
            add,
            remove,
            extensions,
            authenticated_data,
            tree_in_welcome,
            now,
        };
        self.slow(py, |inner| pending::build(&self.core, inner.live()?, order))
    }

    /// Moves to the epoch of one's own commit. Raises StaleCommit on another base.
    fn apply(&self, py: Python<'_>, pending: &PendingCommit) -> PyResult<Commit> {
        self.slow(py, |inner| {
            let group = inner.live()?;
            pending.check_base(&self.core, group)?;
            let mut next = group.clone();
            let done = next.apply_detached_commit(pending.secrets()?)?;
            let commit = describe::commit(done, &next)?;
            inner.group = next;
            Ok(commit)
        })
    }

    /// Processes one message of this group on a clone, and replaces the group on success.
    fn process<'py>(&self, py: Python<'py>, message: &[u8]) -> PyResult<Bound<'py, PyAny>> {
        let parsed = wire::parse(message)?;
        let secret = matches!(
            parsed.description(),
            MlsMessageDescription::PrivateProtocolMessage { .. }
        );
        let run = |inner: &mut Inner| inner.process(parsed);
        let done = if secret {
            self.quick(py, run)?
        } else {
            self.slow(py, run)?
        };
        match done {
            Processed::Message(message) => message.into_bound_py_any(py),
            Processed::Commit(commit) => commit.into_bound_py_any(py),
        }
    }

    fn clone(&self, py: Python<'_>) -> PyResult<Self> {
        let copy = self.slow(py, |inner| Ok(inner.clone()))?;
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
        self.slow(py, |inner| self.write(inner, tree))
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
    pub fn new(core: Arc<Core>, group: MlsGroup, active: bool, tree: Option<Vec<u8>>) -> Self {
        let inner = Inner {
            group,
            active,
            stored_tree: tree,
        };
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

    pub fn load(
        core: &Arc<Core>,
        group_id: &[u8],
        state: &[u8],
        tree: &[u8],
        epochs: &[(u64, Vec<u8>)],
    ) -> Result<Self, Fault> {
        let layout = |_| wrong_layout();
        let mut store = core.store();
        let active = store.restore_state(group_id, state)?;
        for (epoch, blob) in epochs {
            store.restore_epoch(group_id, *epoch, blob)?;
        }
        let (hash, tree) = core.open_tree(group_id, tree)?;
        let tree = wire::parse_tree(&tree).map_err(layout)?;
        // The suite is the state's; the client's own one is for new groups only.
        let client = core.client(CipherSuite::new(suite::CLASSIC), store, 0);
        let group = client
            .load_group_with_ratchet_tree(group_id, tree)
            .map_err(|error| layout(Fault::from(error)))?;
        if group.context().tree_hash != hash {
            let text = "the tree is not the one of this state";
            return Err(Fault::new(Kind::Blob, "other-tree", text));
        }
        if group.current_member_signing_identity().ok() != Some(&core.identity) {
            let text = "the group was stored for another signature key or credential";
            return Err(Fault::new(Kind::Blob, "other-client", text));
        }
        core.set_tree_written(group_id, &hash);
        Ok(Self::new(core.clone(), group, active, Some(hash)))
    }

    fn write(&self, inner: &mut Inner, tree: Option<bool>) -> Result<(), Fault> {
        let group_id = inner.group.group_id().to_vec();
        let hash = inner.group.context().tree_hash.to_vec();
        let stored =
            inner.stored_tree.as_ref() == Some(&hash) && self.core.tree_written(&group_id, &hash);
        let tree = if tree.unwrap_or(!stored) {
            let bytes = inner.group.export_tree().to_bytes()?;
            let blob = self.core.seal_tree(&group_id, &hash, &bytes)?;
            Some(LogEntry::new("tree", Some(&group_id), None, Some(blob)))
        } else {
            None
        };
        let written = tree.is_some();
        let save = || Ok(inner.group.write_to_storage_without_ratchet_tree()?);
        self.core.record(inner.active, save, |()| tree)?;
        if written {
            self.core.set_tree_written(&group_id, &hash);
            inner.stored_tree = Some(hash);
        }
        Ok(())
    }

    /// For `testing`: runs on the mls-rs group itself.
    pub fn raw<R: Send>(
        &self,
        py: Python<'_>,
        run: impl FnOnce(&mut MlsGroup) -> Result<R, Fault> + Send,
    ) -> PyResult<R> {
        self.slow(py, |inner| run(&mut inner.group))
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
    /// interpreter, so a validator can always get it.
    fn slow<R: Send>(
        &self,
        py: Python<'_>,
        run: impl FnOnce(&mut Inner) -> Result<R, Fault> + Send,
    ) -> PyResult<R> {
        may_lock()?;
        Ok(py.detach(|| contained(|| run(&mut lock(&self.inner))))?)
    }
}

impl Inner {
    fn process(&mut self, message: MlsMessage) -> Result<Processed, Fault> {
        let group = self.live()?;
        let epoch = describe::check_header(group, &message)?;
        let mut next = group.clone();
        match next.process_incoming_message(message)? {
            ReceivedMessage::ApplicationMessage(message) => {
                let sender = describe::member(&next, message.sender_index)?;
                let plaintext = message.data().to_vec();
                let authenticated_data = message.authenticated_data;
                self.group = next;
                let message = Message {
                    sender,
                    epoch,
                    plaintext,
                    authenticated_data,
                };
                Ok(Processed::Message(message))
            }
            ReceivedMessage::Commit(done) => {
                let removed = is_removal(&done);
                let commit = describe::commit(done, &next)?;
                self.group = next;
                self.active = !removed;
                Ok(Processed::Commit(commit))
            }
            ReceivedMessage::Proposal(_) => Err(Fault::new(
                Kind::Refused,
                "by-reference-proposal",
                "a proposal by reference",
            )),
            _ => Err(Fault::decode(
                "unexpected-message",
                "not a message inside a group",
            )),
        }
    }
}

fn is_removal(done: &CommitMessageDescription) -> bool {
    matches!(done.effect, CommitEffect::Removed { .. })
}
