//! The plain values that Python sees.

use mls_rs::ExtensionList;
use mls_rs::group::Member as MlsMember;
use pyo3::prelude::*;
use zeroize::Zeroizing;

use crate::identity::basic;

/// A KeyPackage of this client, ready to publish.
#[pyclass(frozen, get_all, module = "mls_rs")]
pub struct KeyPackage {
    /// The MLSMessage, exact bytes.
    pub message: Vec<u8>,
    /// KeyPackageRef, 32 bytes (RFC 9420 section 5.2).
    pub reference: Vec<u8>,
}

/// What a stranger's KeyPackage says, after its signatures were verified.
#[pyclass(frozen, get_all, module = "mls_rs")]
pub struct KeyPackageInfo {
    pub suite: u16,
    pub signature_key: Vec<u8>,
    /// Identity bytes of the Basic credential.
    pub credential: Vec<u8>,
    /// Unix seconds.
    pub not_before: u64,
    /// Unix seconds.
    pub not_after: u64,
    pub reference: Vec<u8>,
    pub last_resort: bool,
}

/// A leaf of the group: its index, its signature key, its credential.
#[pyclass(frozen, get_all, eq, hash, module = "mls_rs")]
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Member {
    pub index: u32,
    pub signature_key: Vec<u8>,
    pub credential: Vec<u8>,
}

#[pymethods]
impl Member {
    fn __repr__(&self) -> String {
        let hex: String = self
            .signature_key
            .iter()
            .take(4)
            .map(|b| format!("{b:02x}"))
            .collect();
        format!("Member(index={}, signature_key={hex}…)", self.index)
    }
}

impl From<MlsMember> for Member {
    fn from(member: MlsMember) -> Self {
        let identity = member.signing_identity();
        Self {
            index: member.index(),
            signature_key: identity.signature_key.to_vec(),
            credential: basic(identity).unwrap_or_default().to_vec(),
        }
    }
}

/// What can be read of a message without any key.
#[pyclass(frozen, get_all, module = "mls_rs")]
pub struct Header {
    pub kind: &'static str,
    pub content: Option<&'static str>,
    pub group_id: Option<Vec<u8>>,
    pub epoch: Option<u64>,
}

#[derive(Clone, IntoPyObject)]
pub enum EntryId {
    Epoch(u64),
    Reference(Vec<u8>),
}

/// One write that the caller must store, in order, in one transaction.
#[pyclass(frozen, get_all, module = "mls_rs")]
#[derive(Clone)]
pub struct LogEntry {
    pub kind: &'static str,
    /// None for key packages.
    pub group_id: Option<Vec<u8>>,
    /// Epoch number for epochs, KeyPackageRef for key packages, None otherwise.
    pub id: Option<EntryId>,
    /// A sealed blob; None for a deletion.
    pub data: Option<Vec<u8>>,
}

impl LogEntry {
    pub fn new(
        kind: &'static str,
        group_id: Option<&[u8]>,
        id: Option<EntryId>,
        data: Option<Vec<u8>>,
    ) -> Self {
        Self {
            kind,
            group_id: group_id.map(<[u8]>::to_vec),
            id,
            data,
        }
    }
}

#[pymethods]
impl LogEntry {
    fn __repr__(&self) -> String {
        let size = self.data.as_ref().map_or(0, Vec::len);
        match &self.id {
            Some(EntryId::Epoch(epoch)) => format!("LogEntry({}, {epoch}, {size} B)", self.kind),
            _ => format!("LogEntry({}, {size} B)", self.kind),
        }
    }
}

/// An application message that was opened.
#[pyclass(frozen, module = "mls_rs")]
pub struct Message {
    #[pyo3(get)]
    pub sender: Member,
    #[pyo3(get)]
    pub epoch: u64,
    pub plaintext: Zeroizing<Vec<u8>>,
    #[pyo3(get)]
    pub authenticated_data: Vec<u8>,
}

#[pymethods]
impl Message {
    #[getter]
    fn plaintext(&self) -> &[u8] {
        &self.plaintext
    }
}

/// What a commit did, by whoever made it; `added` as after it, `removed` as before it.
#[pyclass(frozen, module = "mls_rs")]
pub struct Commit {
    #[pyo3(get)]
    pub committer: Member,
    /// The epoch that the commit opened.
    #[pyo3(get)]
    pub epoch: u64,
    #[pyo3(get)]
    pub added: Vec<Member>,
    #[pyo3(get)]
    pub removed: Vec<Member>,
    /// The group-context extensions from now on, if the commit replaced them.
    pub extensions: Option<ExtensionList>,
    #[pyo3(get)]
    pub removes_me: bool,
    #[pyo3(get)]
    pub authenticated_data: Vec<u8>,
}

#[pymethods]
impl Commit {
    /// The commit replaced the group-context extensions.
    #[getter]
    fn updated_extensions(&self) -> bool {
        self.extensions.is_some()
    }
}
