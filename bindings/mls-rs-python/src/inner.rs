//! What a `Group` locks: the mls-rs group and what it does not remember by itself. Operations work
//! on a clone and replace the group on success.

use std::collections::HashMap;
use std::sync::Arc;

use mls_rs::MlsMessage;
use mls_rs::group::{CommitEffect, ReceivedMessage};

use crate::core::{Core, MlsGroup};
use crate::describe;
use crate::errors::{Fault, Kind, contained};
use crate::ledger::Ledger;
use crate::pending::PendingCommit;
use crate::values::{Commit, Member, Message};
use crate::wire;

/// Own generations skipped by one call: about 1.5 s of key derivation.
const SKIP_LIMIT: u32 = 1 << 20;

/// Leaf by signature key.
type Leaves = Arc<HashMap<Vec<u8>, u32>>;

#[derive(Clone)]
pub struct Inner {
    pub group: MlsGroup,
    pub active: bool,
    /// Tree hash of the "tree" entry that this object wrote or was loaded from.
    pub stored_tree: Option<Vec<u8>>,
    pub ledger: Ledger,
    /// Of the epoch named.
    leaves: Option<(u64, Leaves)>,
}

pub enum Processed {
    Message(Message),
    Commit(Commit),
}

impl Inner {
    pub fn new(
        group: MlsGroup,
        active: bool,
        stored_tree: Option<Vec<u8>>,
        ledger: Ledger,
    ) -> Self {
        Self {
            group,
            active,
            stored_tree,
            ledger,
            leaves: None,
        }
    }

    pub fn live(&mut self) -> Result<&mut MlsGroup, Fault> {
        if self.active {
            Ok(&mut self.group)
        } else {
            Err(Fault::not_active())
        }
    }

    pub fn encrypt(
        &mut self,
        plaintext: &[u8],
        authenticated_data: Vec<u8>,
    ) -> Result<Vec<u8>, Fault> {
        let group = self.live()?;
        Ok(group
            .encrypt_application_message(plaintext, authenticated_data)?
            .to_bytes()?)
    }

    pub fn skip_to(&mut self, generation: u32) -> Result<(), Fault> {
        let group = self.live()?;
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
    }

    pub fn apply(&mut self, core: &Core, pending: &PendingCommit) -> Result<Commit, Fault> {
        let group = self.live()?;
        pending.check_base(core, group)?;
        let mut next = group.clone();
        let done = next.apply_detached_commit(pending.secrets()?)?;
        let commit = describe::commit(done, &next)?;
        self.ledger.enter(next.context().epoch());
        self.group = next;
        Ok(commit)
    }

    pub fn find(&mut self, signature_key: &[u8]) -> Option<Member> {
        let epoch = self.group.context().epoch();
        let leaves = match &self.leaves {
            Some((known, leaves)) if *known == epoch => leaves.clone(),
            _ => {
                let members = self.group.roster().members_iter();
                let key = |member: &mls_rs::group::Member| {
                    member.signing_identity().signature_key.to_vec()
                };
                let leaves = Arc::new(
                    members
                        .map(|member| (key(&member), member.index()))
                        .collect(),
                );
                self.leaves = Some((epoch, Arc::clone(&leaves)));
                leaves
            }
        };
        let index = *leaves.get(signature_key)?;
        self.group.member_at_index(index).map(Member::from)
    }

    /// One message on a clone.
    pub fn process(&mut self, message: MlsMessage) -> Result<Processed, Fault> {
        let mut next = self.clone();
        let done = next.advance(message)?;
        *self = next;
        Ok(done)
    }

    /// Each message on its own, as `process` would; one clone serves all up to one that fails.
    ///
    /// A failed message may have burned a key of the clone it was tried on, so the next clone is
    /// taken from the last good state, and what had succeeded since is done again.
    pub fn process_many(&mut self, messages: &[Vec<u8>]) -> Vec<Result<Processed, Fault>> {
        let mut good = self.clone();
        let mut since: Vec<&[u8]> = Vec::new();
        let mut results = Vec::with_capacity(messages.len());
        for bytes in messages {
            let done = wire::parse(bytes).and_then(|parsed| contained(|| self.advance(parsed)));
            match &done {
                Ok(Processed::Commit(_)) => {
                    good = self.clone();
                    since.clear();
                }
                Ok(Processed::Message(_)) => since.push(bytes),
                Err(_) => {
                    *self = good.clone();
                    for bytes in since.drain(..) {
                        // Cannot fail: the same message on the same state.
                        let again = wire::parse(bytes).and_then(|parsed| self.advance(parsed));
                        debug_assert!(again.is_ok());
                    }
                    good = self.clone();
                }
            }
            results.push(done);
        }
        results
    }

    /// Moves on by one message; after an error this clone is not to be used any more.
    fn advance(&mut self, message: MlsMessage) -> Result<Processed, Fault> {
        let group = self.live()?;
        let epoch = describe::check_header(group, &message)?;
        match group.process_incoming_message(message)? {
            ReceivedMessage::ApplicationMessage(message) => {
                let leaf = message.sender_index;
                let sender = describe::member(group, leaf)?;
                let generation = message
                    .unauthenticated_key_generation
                    .ok_or_else(|| Fault::new(Kind::Other, "internal", "no generation"))?;
                self.count(epoch, leaf, generation)?;
                Ok(Processed::Message(Message {
                    sender,
                    epoch,
                    plaintext: message.data().to_vec().into(),
                    authenticated_data: message.authenticated_data,
                }))
            }
            ReceivedMessage::Commit(done) => {
                let removed = matches!(done.effect, CommitEffect::Removed { .. });
                let commit = describe::commit(done, group)?;
                let epoch = group.context().epoch();
                if !removed {
                    self.ledger.enter(epoch);
                }
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

    fn count(&mut self, epoch: u64, leaf: u32, generation: u32) -> Result<(), Fault> {
        let group = &mut self.group;
        if epoch == group.context().epoch() {
            self.ledger.received(leaf, generation, |leaf, generation| {
                // mls-rs forgets a key that it hands out. It may not have it: then there is
                // nothing to forget. It calls its argument the sender, but takes a node's index
                // (RFC 9420 appendix C: leaf n is node 2n).
                let _ = group.derive_decryption_key(2 * leaf, generation);
            });
        } else if !self.ledger.received_late(epoch, leaf, generation) {
            let text = "too many skipped messages of a prior epoch";
            return Err(Fault::new(Kind::KeyUnavailable, "too-many-skipped", text));
        }
        Ok(())
    }
}
