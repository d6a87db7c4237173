//! Coming back from outside: a member who lost its state replaces its own leaf by an external commit.

use std::sync::Arc;

use mls_rs::external_client::ExternalClient;

use crate::callback::may_lock;
use crate::core::Core;
use crate::errors::{Fault, Kind};
use crate::group::Group;
use crate::identity::Validator;
use crate::inner::Inner;
use crate::ledger::Ledger;
use crate::suite;
use crate::values::{Commit, Member};
use crate::wire;

/// The group in the epoch after the commit, and the commit for the others.
pub fn rejoin(
    core: &Arc<Core>,
    group_info: &[u8],
    tree: Option<&[u8]>,
    now: u64,
) -> Result<(Group, Vec<u8>), Fault> {
    may_lock()?;
    let message = wire::parse(group_info)?;
    let info = message
        .as_group_info()
        .ok_or_else(|| Fault::decode("unexpected-message", "not a GroupInfo"))?;
    let suite = info.group_context().cipher_suite();
    if suite::implementation(suite).is_none() {
        return Err(Fault::decode(
            "unsupported-suite",
            "a cipher suite unknown here",
        ));
    }
    let tree = tree.map(wire::parse_tree).transpose()?;
    let watcher = ExternalClient::builder()
        .crypto_provider(suite::provider())
        .identity_provider(Validator::anyone())
        .mls_rules(core.rules.clone())
        .extension_types(core.extension_types.iter().copied())
        .build();
    let seen = watcher.observe_group(message.clone(), tree.clone(), Some(now.into()))?;
    core.rules.policy_of(seen.group_context().extensions())?;
    let old = seen
        .roster()
        .members_iter()
        .find(|member| *member.signing_identity() == core.identity)
        .map(Member::from)
        .ok_or_else(|| {
            let text = "no leaf has this client's signature key and credential";
            Fault::new(Kind::NoSuchMember, "no-such-member", text)
        })?;
    let client = core.client(suite, core.store(), crate::client::UNUSED_LIFETIME_S);
    let mut builder = client
        .external_commit_builder()?
        .with_removal(old.index)
        .commit_time(now.into());
    if let Some(tree) = tree {
        builder = builder.with_tree_data(tree);
    }
    let (group, commit) = builder.build(message)?;
    let back = Member {
        index: group.current_member_index(),
        ..old.clone()
    };
    let done = Commit {
        committer: back.clone(),
        epoch: group.context().epoch(),
        added: vec![back],
        removed: vec![old],
        extensions: None,
        removes_me: false,
        authenticated_data: Vec::new(),
    };
    core.authorizer
        .judge(seen.group_context(), &seen.roster(), &done)?;
    let ledger = Ledger::begin(group.context().epoch());
    let group = Group::new(core.clone(), Inner::new(group, true, None, ledger));
    Ok((group, commit.to_bytes()?))
}
