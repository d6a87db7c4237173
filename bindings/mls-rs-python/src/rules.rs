//! What this package refuses beyond RFC 9420, decided from the message alone, so that every member
//! decides alike: external commits, by-reference proposals, re-initialisation.

use std::cell::Cell;

use mls_rs::MlsRules;
use mls_rs::client_builder::PaddingMode;
use mls_rs::error::IntoAnyError;
use mls_rs::group::{GroupContext, Roster};
use mls_rs::mls_rules::{
    CommitDirection, CommitOptions, CommitSource, EncryptionOptions, ProposalBundle,
};

#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Tests need somebody who breaks the rules; only `testing` sets this.
    pub lawless: bool,
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
        _roster: &Roster<'_>,
        _context: &GroupContext,
        proposals: ProposalBundle,
    ) -> Result<ProposalBundle, Refusal> {
        if self.lawless {
            return Ok(proposals);
        }
        if matches!(source, CommitSource::NewMember(_)) {
            return Err(Refusal("external-commit"));
        }
        if proposals.iter_proposals().any(|p| p.is_by_reference()) {
            return Err(Refusal("by-reference-proposal"));
        }
        if !proposals.reinit_proposals().is_empty() {
            return Err(Refusal("reinit"));
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
