//! What this package refuses beyond RFC 9420, decided from the message and the group context before
//! it, so that every member decides alike: strangers' external commits, by-reference proposals,
//! re-initialisation, and what the group's policy forbids.

use std::cell::Cell;

use mls_rs::client_builder::PaddingMode;
use mls_rs::error::IntoAnyError;
use mls_rs::extension::ExtensionType;
use mls_rs::group::{GroupContext, Roster};
use mls_rs::identity::SigningIdentity;
use mls_rs::mls_rules::{
    CommitDirection, CommitOptions, CommitSource, EncryptionOptions, ProposalBundle,
};
use mls_rs::{ExtensionList, MlsRules};

use crate::policy::Policy;

/// The rules of one client; all members of a group must have the same.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// The group-context extension that holds a `Policy`.
    pub policy: Option<ExtensionType>,
}

impl Rules {
    /// The policy of a list of group-context extensions, if there is one.
    pub fn policy_of(&self, list: &ExtensionList) -> Result<Option<Policy>, Refusal> {
        let Some(extension) = self.policy.and_then(|kind| list.get(kind)) else {
            return Ok(None);
        };
        match Policy::decode(extension.extension_data()) {
            Some(policy) => Ok(Some(policy)),
            None => Err(Refusal("policy-malformed")),
        }
    }

    /// An external commit may do one thing: put a member back in the place of its own old leaf.
    fn rejoin(
        joiner: &SigningIdentity,
        roster: &Roster<'_>,
        proposals: &ProposalBundle,
    ) -> Result<(), Refusal> {
        let refused = Refusal("external-commit");
        let [removal] = proposals.remove_proposals() else {
            return Err(refused);
        };
        let Ok(leaf) = roster.member_with_index(removal.proposal.to_remove()) else {
            return Err(refused);
        };
        let inits = proposals.external_init_proposals().len();
        let only = proposals.length() == 1 + inits + proposals.psk_proposals().len();
        if leaf.signing_identity() != joiner || !only {
            return Err(refused);
        }
        Ok(())
    }
}

/// The code of a refusal.
#[derive(Debug)]
pub struct Refusal(pub &'static str);

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "refused by the rules: {}", self.0)
    }
}

impl std::error::Error for Refusal {}

impl IntoAnyError for Refusal {
    fn into_dyn_error(self) -> Result<Box<dyn std::error::Error + Send + Sync>, Self> {
        Ok(Box::new(self))
    }
}

thread_local! {
    // mls-rs asks for commit options by a callback without context; a commit is built on one thread.
    static TREE_IN_WELCOME: Cell<bool> = const { Cell::new(true) };
}

/// Runs `build` with the ratchet tree inside or beside the Welcome.
pub fn with_tree_in_welcome<R>(inside: bool, build: impl FnOnce() -> R) -> R {
    struct Reset;
    impl Drop for Reset {
        fn drop(&mut self) {
            TREE_IN_WELCOME.set(true);
        }
    }
    TREE_IN_WELCOME.set(inside);
    let _reset = Reset;
    build()
}

impl MlsRules for Rules {
    type Error = Refusal;

    fn filter_proposals(
        &self,
        _direction: CommitDirection,
        source: CommitSource,
        roster: &Roster<'_>,
        context: &GroupContext,
        proposals: ProposalBundle,
    ) -> Result<ProposalBundle, Refusal> {
        if proposals.iter_proposals().any(|p| p.is_by_reference()) {
            return Err(Refusal("by-reference-proposal"));
        }
        if !proposals.reinit_proposals().is_empty() {
            return Err(Refusal("reinit"));
        }
        for change in proposals.group_context_ext_proposals() {
            self.policy_of(&change.proposal)?;
        }
        match source {
            CommitSource::NewMember(joiner) => Self::rejoin(&joiner, roster, &proposals)?,
            CommitSource::ExistingMember(committer) => {
                if let Some(policy) = self.policy_of(context.extensions())? {
                    let changes = proposals
                        .group_context_ext_proposals()
                        .iter()
                        .any(|change| change.proposal != *context.extensions());
                    let who = committer.signing_identity();
                    policy.judge(who, roster, changes, &proposals)?;
                }
            }
        }
        Ok(proposals)
    }

    fn commit_options(
        &self,
        _roster: &Roster<'_>,
        _context: &GroupContext,
        _proposals: &ProposalBundle,
    ) -> Result<CommitOptions, Refusal> {
        Ok(CommitOptions::new()
            .with_path_required(true)
            .with_ratchet_tree_extension(TREE_IN_WELCOME.get())
            .with_single_welcome_message(true)
            .with_allow_external_commit(false))
    }

    fn encryption_options(
        &self,
        _roster: &Roster<'_>,
        _context: &GroupContext,
    ) -> Result<EncryptionOptions, Refusal> {
        Ok(EncryptionOptions::new(false, PaddingMode::StepFunction))
    }
}
