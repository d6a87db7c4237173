//! Groups to blobs and back.

use std::sync::Arc;

use mls_rs::CipherSuite;

use crate::core::Core;
use crate::errors::{Fault, Kind};
use crate::inner::Inner;
use crate::ledger::Ledger;
use crate::storage::wrong_layout;
use crate::suite;
use crate::values::LogEntry;
use crate::wire;

pub fn load(
    core: &Arc<Core>,
    group_id: &[u8],
    state: &[u8],
    tree: &[u8],
    epochs: &[(u64, Vec<u8>)],
) -> Result<Inner, Fault> {
    let layout = |_| wrong_layout();
    let mut store = core.store();
    let (active, ledger) = store.restore_state(group_id, state)?;
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
    let ledger = ledger.unwrap_or_else(|| Ledger::unknown(group.context().epoch()));
    Ok(Inner::new(group, active, Some(hash), ledger))
}

/// The tree is written if it changed since it was last, or as `tree` says.
pub fn save(core: &Core, inner: &mut Inner, tree: Option<bool>) -> Result<(), Fault> {
    let group_id = inner.group.group_id().to_vec();
    let hash = inner.group.context().tree_hash.to_vec();
    let stored = inner.stored_tree.as_ref() == Some(&hash) && core.tree_written(&group_id, &hash);
    let tree = if tree.unwrap_or(!stored) {
        let bytes = inner.group.export_tree().to_bytes()?;
        let blob = core.seal_tree(&group_id, &hash, &bytes)?;
        Some(LogEntry::new("tree", Some(&group_id), None, Some(blob)))
    } else {
        None
    };
    let written = tree.is_some();
    let ledger = inner.ledger.encode()?;
    let save = || Ok(inner.group.write_to_storage_without_ratchet_tree()?);
    core.record(inner.active, ledger, save, |()| tree)?;
    inner.forget_fallback();
    if written {
        core.set_tree_written(&group_id, &hash);
        inner.stored_tree = Some(hash);
    }
    Ok(())
}
