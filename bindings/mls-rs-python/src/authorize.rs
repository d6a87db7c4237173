//! Whether a commit may take effect: the caller's Python function judges what it would change.

use mls_rs::ExtensionList;
use mls_rs::group::{GroupContext, Roster};
use pyo3::prelude::*;

use crate::callback::Callback;
use crate::errors::Fault;
use crate::values::{Commit, Member};

/// What a commit would do, and to which group: the same for every member.
#[pyclass(frozen, get_all, module = "mls_rs")]
pub struct Change {
    pub group_id: Vec<u8>,
    /// The epoch that the commit opens.
    pub epoch: u64,
    pub committer: Member,
    /// All members before the commit, by leaf index.
    pub members: Vec<Member>,
    /// As after the commit.
    pub added: Vec<Member>,
    /// As before the commit.
    pub removed: Vec<Member>,
    /// The group-context extensions before the commit: types and data.
    pub extensions_before: Vec<(u16, Vec<u8>)>,
    /// The group-context extensions after the commit.
    pub extensions_after: Vec<(u16, Vec<u8>)>,
    pub authenticated_data: Vec<u8>,
}

#[pymethods]
impl Change {
    fn __repr__(&self) -> String {
        format!(
            "Change(epoch={}, added={}, removed={})",
            self.epoch,
            self.added.len(),
            self.removed.len()
        )
    }
}

/// Without a function, every commit that the rules let pass takes effect.
pub struct Authorizer(Option<Callback>);

impl Authorizer {
    pub fn new(callback: Option<Callback>) -> Self {
        Self(callback)
    }

    /// Whether there is anybody to ask.
    pub fn asks(&self) -> bool {
        self.0.is_some()
    }

    /// `context` and `roster` are those before `commit`.
    pub fn judge(
        &self,
        context: &GroupContext,
        roster: &Roster<'_>,
        commit: &Commit,
    ) -> Result<(), Fault> {
        let Some(callback) = &self.0 else {
            return Ok(());
        };
        let before = plain(context.extensions());
        let change = Change {
            group_id: context.group_id().to_vec(),
            epoch: commit.epoch,
            committer: commit.committer.clone(),
            members: roster.members_iter().map(Member::from).collect(),
            added: commit.added.clone(),
            removed: commit.removed.clone(),
            extensions_after: commit
                .extensions
                .as_ref()
                .map_or_else(|| before.clone(), plain),
            extensions_before: before,
            authenticated_data: commit.authenticated_data.clone(),
        };
        Python::attach(|py| callback.call(py, (change,))).map_err(Fault::not_authorized)
    }
}

fn plain(list: &ExtensionList) -> Vec<(u16, Vec<u8>)> {
    list.iter()
        .map(|extension| {
            let data = extension.extension_data().to_vec();
            (extension.extension_type().raw_value(), data)
        })
        .collect()
}
