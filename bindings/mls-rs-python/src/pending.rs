//! `PendingCommit`: a detached commit, bound to the state it was made from.
//!
//! mls-rs applies any commit secrets to any group; a stale one would fork it silently.

use std::sync::Arc;

use mls_rs::MlsMessage;
use mls_rs::group::CommitSecrets;
use mls_rs::mls_rs_codec::{self, MlsDecode, MlsEncode, MlsSize};
use pyo3::prelude::*;
use zeroize::Zeroizing;

use crate::core::{Core, MlsGroup, extensions};
use crate::describe;
use crate::errors::{Fault, Kind};
use crate::rules::with_tree_in_welcome;
use crate::seal::What;
use crate::storage::wrong_layout;
use crate::values::Commit;
use crate::wire;

/// The arguments of `Group.commit`.
pub struct Order {
    pub add: Vec<Vec<u8>>,
    pub remove: Vec<u32>,
    pub extensions: Option<Vec<(u16, Vec<u8>)>>,
    pub psk: Vec<Vec<u8>>,
    pub authenticated_data: Vec<u8>,
    pub tree_in_welcome: bool,
    pub now: u64,
}

#[derive(Clone, PartialEq, MlsSize, MlsEncode, MlsDecode)]
struct Base {
    #[mls_codec(with = "mls_rs_codec::byte_vec")]
    group_id: Vec<u8>,
    epoch: u64,
    #[mls_codec(with = "mls_rs_codec::byte_vec")]
    epoch_authenticator: Vec<u8>,
    own_index: u32,
    #[mls_codec(with = "mls_rs_codec::byte_vec")]
    signature_key: Vec<u8>,
}

impl Base {
    fn of(core: &Core, group: &MlsGroup) -> Result<Self, Fault> {
        Ok(Self {
            group_id: group.group_id().to_vec(),
            epoch: group.context().epoch(),
            epoch_authenticator: group.epoch_authenticator()?.to_vec(),
            own_index: group.current_member_index(),
            signature_key: core.identity.signature_key.to_vec(),
        })
    }
}

#[derive(MlsSize, MlsEncode, MlsDecode)]
struct Content {
    base: Base,
    #[mls_codec(with = "mls_rs_codec::byte_vec")]
    message: Vec<u8>,
    welcome: Option<Vec<u8>>,
    tree: Option<Vec<u8>>,
    #[mls_codec(with = "mls_rs_codec::byte_vec")]
    secrets: Zeroizing<Vec<u8>>,
}

/// A detached commit. It is bound to its base: group id, epoch and epoch authenticator.
#[pyclass(frozen, module = "mls_rs")]
pub struct PendingCommit {
    core: Arc<Core>,
    content: Content,
}

#[pymethods]
impl PendingCommit {
    /// The Commit as an MLSMessage holding a PublicMessage.
    #[getter]
    fn message(&self) -> &[u8] {
        &self.content.message
    }

    /// One Welcome for all added members, when any was added.
    #[getter]
    fn welcome(&self) -> Option<&[u8]> {
        self.content.welcome.as_deref()
    }

    /// The ratchet tree after the commit, when it does not travel inside the Welcome.
    #[getter]
    fn tree(&self) -> Option<&[u8]> {
        self.content.tree.as_deref()
    }

    /// A blob that `Client.open_pending_commit` reads back.
    fn seal(&self, py: Python<'_>) -> PyResult<Vec<u8>> {
        let run = || {
            let plaintext = Zeroizing::new(self.content.mls_encode_to_vec()?);
            self.core
                .sealer
                .seal(What::PendingCommit, b"", b"", &plaintext)
        };
        Ok(py.detach(run)?)
    }

    fn __repr__(&self) -> String {
        let Base { epoch, .. } = self.content.base;
        format!(
            "PendingCommit(base_epoch={epoch}, {} B)",
            self.content.message.len()
        )
    }
}

impl PendingCommit {
    pub fn open(core: &Arc<Core>, blob: &[u8]) -> Result<Self, Fault> {
        let plaintext = core.sealer.open(What::PendingCommit, b"", b"", blob)?;
        let content = Content::mls_decode(&mut plaintext.as_slice()).map_err(|_| wrong_layout())?;
        Ok(Self {
            core: core.clone(),
            content,
        })
    }

    pub fn check_base(&self, core: &Core, group: &MlsGroup) -> Result<(), Fault> {
        if self.content.base != Base::of(core, group)? {
            let text = "the commit was made from another state than this group is in";
            return Err(Fault::new(Kind::Stale, "stale-commit", text));
        }
        Ok(())
    }

    pub fn secrets(&self) -> Result<CommitSecrets, Fault> {
        CommitSecrets::from_bytes(&self.content.secrets).map_err(|_| wrong_layout())
    }
}

/// The group after its own commit, if that may take effect, and what it did.
pub fn applied(
    core: &Core,
    group: &MlsGroup,
    secrets: CommitSecrets,
) -> Result<(MlsGroup, Commit), Fault> {
    let mut next = group.clone();
    let done = next.apply_detached_commit(secrets)?;
    let commit = describe::commit(done, &next)?;
    core.authorizer
        .judge(group.context(), &group.roster(), &commit)?;
    Ok((next, commit))
}

pub fn build(core: &Arc<Core>, group: &mut MlsGroup, order: Order) -> Result<PendingCommit, Fault> {
    let base = Base::of(core, group)?;
    let suite = group.cipher_suite();
    let packages: Vec<MlsMessage> = order
        .add
        .iter()
        .map(|bytes| wire::parse(bytes))
        .collect::<Result<_, _>>()?;
    for message in &packages {
        if wire::key_package(message)?.cipher_suite != suite {
            let text = "a KeyPackage of another cipher suite than the group's";
            return Err(Fault::new(Kind::InvalidCommit, "wrong-suite", text));
        }
    }
    for index in &order.remove {
        describe::member(group, *index)?;
    }
    let adds = !packages.is_empty();
    let mut builder = group
        .commit_builder()
        .authenticated_data(order.authenticated_data)
        .commit_time(order.now.into());
    for index in order.remove {
        builder = builder.remove_member(index)?;
    }
    for package in packages {
        builder = builder.add_member(package)?;
    }
    if let Some(list) = order.extensions {
        builder = builder.set_group_context_ext(extensions(list)?)?;
    }
    for id in order.psk {
        if core.psks.get(&id.clone().into()).is_none() {
            return Err(Fault::argument(
                "a pre-shared key that was not added".into(),
            ));
        }
        builder = builder.add_external_psk(id.into())?;
    }
    let (output, secrets) =
        with_tree_in_welcome(order.tree_in_welcome, || builder.build_detached())?;
    if core.authorizer.asks() {
        applied(core, group, secrets.clone())?;
    }
    let tree = output
        .ratchet_tree
        .filter(|_| adds)
        .map(|tree| tree.to_bytes())
        .transpose()?;
    let welcome = output
        .welcome_messages
        .first()
        .map(MlsMessage::to_bytes)
        .transpose()?;
    let content = Content {
        base,
        message: output.commit_message.to_bytes()?,
        welcome,
        tree,
        secrets: secrets.to_bytes()?.into(),
    };
    Ok(PendingCommit {
        core: core.clone(),
        content,
    })
}
