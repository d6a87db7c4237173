//! What a message says before it is processed, and what a commit did afterwards.

use mls_rs::group::proposal::Proposal;
use mls_rs::group::{CommitEffect, CommitMessageDescription, ContentType, NewEpoch, Sender};
use mls_rs::{MlsMessage, MlsMessageDescription};

use crate::core::MlsGroup;
use crate::errors::{Fault, Kind};
use crate::identity::basic;
use crate::values::{Commit, Member};

pub fn member(group: &MlsGroup, index: u32) -> Result<Member, Fault> {
    group
        .member_at_index(index)
        .map(Member::from)
        .ok_or_else(|| {
            Fault::new(
                Kind::NoSuchMember,
                "no-such-member",
                format!("leaf {index}"),
            )
        })
}

/// mls-rs's errors for these cases overlap, so they are told apart before it sees the message.
/// Returns the message's epoch.
pub fn check_header(group: &MlsGroup, message: &MlsMessage) -> Result<u64, Fault> {
    let (group_id, epoch, content, sender) = match message.description() {
        MlsMessageDescription::PublicProtocolMessage {
            group_id,
            epoch_id,
            content_type,
            sender,
            ..
        } => (group_id, epoch_id, content_type, Some(sender)),
        MlsMessageDescription::PrivateProtocolMessage {
            group_id,
            epoch_id,
            content_type,
        } => (group_id, epoch_id, content_type, None),
        _ => {
            return Err(Fault::decode(
                "unexpected-message",
                "not a message inside a group",
            ));
        }
    };
    let own_epoch = group.context().epoch();
    if group_id != group.group_id() {
        return Err(Fault::new(
            Kind::WrongGroup,
            "wrong-group",
            "the message names another group",
        ));
    }
    if epoch > own_epoch {
        let text = format!("epoch {epoch}, the group is in {own_epoch}");
        return Err(Fault::new(Kind::EpochInFuture, "epoch-in-future", text));
    }
    if content == ContentType::Proposal {
        let text = "a proposal by reference";
        return Err(Fault::new(Kind::Refused, "by-reference-proposal", text));
    }
    if content == ContentType::Commit && epoch < own_epoch {
        let text = format!("a commit of epoch {epoch}, the group is in {own_epoch}");
        return Err(Fault::new(Kind::EpochTooOld, "epoch-too-old", text));
    }
    match sender {
        Some(Sender::Member(index)) if index == group.current_member_index() => Err(Fault::new(
            Kind::OwnMessage,
            "own-message",
            "made by this client",
        )),
        _ => Ok(epoch),
    }
}

/// `after` is the group after the commit; if the commit removed us, it is the group before it.
pub fn commit(done: CommitMessageDescription, after: &MlsGroup) -> Result<Commit, Fault> {
    let (new_epoch, removes_me) = match &done.effect {
        CommitEffect::NewEpoch(new_epoch) => (new_epoch, false),
        CommitEffect::Removed { new_epoch, .. } => (new_epoch, true),
        CommitEffect::ReInit(_) => {
            return Err(Fault::new(Kind::Refused, "reinit", "a re-initialisation"));
        }
    };
    let before = |index: u32| {
        new_epoch
            .prior_state
            .member_at_index(index)
            .map(Member::from)
            .ok_or_else(|| {
                Fault::new(
                    Kind::NoSuchMember,
                    "no-such-member",
                    format!("leaf {index}"),
                )
            })
    };
    let mut removed = Vec::new();
    let mut extensions = None;
    for proposal in &new_epoch.applied_proposals {
        match &proposal.proposal {
            Proposal::Remove(remove) => removed.push(before(remove.to_remove())?),
            Proposal::GroupContextExtensions(list) => extensions = Some(list.clone()),
            _ => {}
        }
    }
    let mut added = added(new_epoch, &removed);
    let committer = if done.is_external {
        // The rules let nobody in but a member who replaces its own leaf.
        let old = removed.first().cloned();
        let old = old.ok_or_else(|| Fault::new(Kind::Refused, "external-commit", "a stranger"))?;
        let index = done.committer;
        added.push(Member { index, ..old });
        added[0].clone()
    } else {
        before(done.committer)?
    };
    if !removes_me {
        for member in &added {
            let found = after.member_at_index(member.index).map(Member::from);
            if found.as_ref() != Some(member) {
                return Err(Fault::new(
                    Kind::Other,
                    "internal",
                    "a leaf is not where it should be",
                ));
            }
        }
    }
    Ok(Commit {
        committer,
        epoch: new_epoch.epoch,
        added,
        removed,
        extensions,
        removes_me,
        authenticated_data: done.authenticated_data,
    })
}

/// RFC 9420 section 12.1.1: after the removals, each added leaf takes the leftmost blank one. A
/// member that was removed cannot look into the new tree, so the indices are worked out.
fn added(new_epoch: &NewEpoch, removed: &[Member]) -> Vec<Member> {
    let mut free = 0;
    let taken = |index: u32| {
        new_epoch.prior_state.member_at_index(index).is_some()
            && !removed.iter().any(|member| member.index == index)
    };
    let mut added = Vec::new();
    for proposal in &new_epoch.applied_proposals {
        if let Proposal::Add(add) = &proposal.proposal {
            while taken(free) {
                free += 1;
            }
            let identity = add.signing_identity();
            added.push(Member {
                index: free,
                signature_key: identity.signature_key.to_vec(),
                credential: basic(identity).unwrap_or_default().to_vec(),
            });
            free += 1;
        }
    }
    added
}
