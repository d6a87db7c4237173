//! What a `Group` locks: the mls-rs group and what it does not remember by itself.
//!
//! An operation that fails must leave no trace, and mls-rs burns a message's key when the message
//! turns out to be tampered with. Commits are processed on a clone. Messages are so frequent, and a
//! clone of a large group so slow, that they share one: they run on the group itself, and when one
//! fails, the group goes back to the clone and does again what had succeeded since.

use std::collections::HashMap;
use std::sync::Arc;

use mls_rs::group::{CommitEffect, ContentType, ReceivedMessage};
use mls_rs::{MlsMessage, MlsMessageDescription};

use crate::core::{Core, MlsGroup};
use crate::describe;
use crate::errors::{Fault, Kind, contained};
use crate::ledger::Ledger;
use crate::pending::{self, PendingCommit};
use crate::values::{Commit, Member, Message};

/// Own generations skipped by one call: about 1.5 s of key derivation.
const SKIP_LIMIT: u32 = 1 << 20;

/// Leaf by signature key.
type Leaves = Arc<HashMap<Vec<u8>, u32>>;

/// How many messages may have to be done again.
const REDO_LIMIT: usize = 64;

/// Where to go back to, and the messages that were opened since.
#[derive(Clone)]
struct Fallback {
    group: MlsGroup,
    ledger: Ledger,
    since: Vec<MlsMessage>,
}

pub struct Inner {
    pub group: MlsGroup,
    pub active: bool,
    /// Tree hash of the "tree" entry that this object wrote or was loaded from.
    pub stored_tree: Option<Vec<u8>>,
    pub ledger: Ledger,
    /// Of the epoch named.
    leaves: Option<(u64, Leaves)>,
    /// Of this very group: whatever else changes it has to clear it, but own sending.
    fallback: Option<Fallback>,
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
            fallback: None,
        }
    }

    pub fn copy(&self) -> Self {
        Self {
            group: self.group.clone(),
            active: self.active,
            stored_tree: self.stored_tree.clone(),
            ledger: self.ledger.clone(),
            leaves: self.leaves.clone(),
            fallback: None,
        }
    }

    /// After a save: going back would write epochs again, and what was stored is without the keys
    /// that the fallback still has.
    pub fn forget_fallback(&mut self) {
        self.fallback = None;
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
        let (next, commit) = pending::applied(core, group, pending.secrets()?)?;
        self.ledger.enter(next.context().epoch());
        self.group = next;
        self.fallback = None;
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

    /// One message, or nothing happened.
    pub fn process(&mut self, core: &Core, message: MlsMessage) -> Result<Processed, Fault> {
        let group = self.live()?;
        describe::check_header(group, &message)?;
        if !matches!(
            message.description(),
            MlsMessageDescription::PrivateProtocolMessage {
                content_type: ContentType::Application,
                ..
            }
        ) {
            let mut next = self.copy();
            let done = next.advance(message)?;
            if let Processed::Commit(commit) = &done {
                let (context, roster) = (self.group.context(), self.group.roster());
                core.authorizer.judge(context, &roster, commit)?;
            }
            *self = next;
            return Ok(done);
        }
        let fallback = self.fallback.get_or_insert_with(|| Fallback {
            group: self.group.clone(),
            ledger: self.ledger.clone(),
            since: Vec::new(),
        });
        fallback.since.push(message.clone());
        let full = fallback.since.len() >= REDO_LIMIT;
        let done = contained(|| self.advance(message));
        match &done {
            Ok(_) if full => self.fallback = None,
            Ok(_) => {}
            Err(_) => self.go_back()?,
        }
        done
    }

    /// Undoes the last message; own generations never go back.
    fn go_back(&mut self) -> Result<(), Fault> {
        let Some(mut fallback) = self.fallback.take() else {
            return Ok(());
        };
        let next = self.group.peek_next_key_generation()?;
        self.group = fallback.group;
        self.ledger = fallback.ledger;
        fallback.since.pop();
        while self.group.peek_next_key_generation()? < next {
            self.group.next_encryption_key()?;
        }
        for message in fallback.since {
            self.advance(message)?; // it succeeded before, from the same state
        }
        Ok(())
    }

    /// Moves on by one message; after an error the group is not to be used any more.
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
