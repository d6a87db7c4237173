//! Who may change a group, as data: a group-context extension that every member reads alike.
//!
//! ```text
//! version     u8   1
//! add         u8   0 everyone, 1 admins, 2 nobody
//! remove      u8   0 everyone, 1 admins, 2 nobody
//! id_length   u8   a member is known by so many first bytes of its credential; 0: by all of them
//! admins      u16  their number, big-endian; then each one:
//!   length    u16  only if id_length is 0
//!   id
//! ```
//! It is judged as it stood before the commit. Leaves whose ids are equal are one member: a member's
//! own leaves are its own business. With no admin left among the members, everybody is one.

use std::collections::HashSet;

use mls_rs::group::Roster;
use mls_rs::identity::SigningIdentity;
use mls_rs::mls_rules::ProposalBundle;
use pyo3::prelude::*;

use crate::errors::Fault;
use crate::identity::basic;
use crate::rules::Refusal;

const VERSION: u8 = 1;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    Everyone,
    Admins,
    Nobody,
}

impl Who {
    const NAMES: [(&'static str, Self); 3] = [
        ("everyone", Self::Everyone),
        ("admins", Self::Admins),
        ("nobody", Self::Nobody),
    ];

    fn read(byte: u8) -> Option<Self> {
        Self::NAMES.get(usize::from(byte)).map(|(_, who)| *who)
    }

    fn allows(self, admin: bool) -> bool {
        match self {
            Self::Everyone => true,
            Self::Admins => admin,
            Self::Nobody => false,
        }
    }
}

pub struct Policy {
    add: Who,
    remove: Who,
    id_length: usize,
    admins: HashSet<Vec<u8>>,
}

impl Policy {
    /// Exact: no bytes may follow, and no admin may be named twice.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let ([version, add, remove, id_length], rest) = bytes.split_first_chunk()?;
        if *version != VERSION {
            return None;
        }
        let (count, mut rest) = take_u16(rest)?;
        let mut admins = HashSet::new();
        for _ in 0..count {
            let mut length = usize::from(*id_length);
            if length == 0 {
                (length, rest) = take_u16(rest)?;
            }
            let (id, after) = rest.split_at_checked(length)?;
            rest = after;
            if !admins.insert(id.to_vec()) {
                return None;
            }
        }
        rest.is_empty().then_some(Self {
            add: Who::read(*add)?,
            remove: Who::read(*remove)?,
            id_length: usize::from(*id_length),
            admins,
        })
    }

    fn id<'a>(&self, identity: &'a SigningIdentity) -> &'a [u8] {
        let credential = basic(identity).unwrap_or_default();
        match self.id_length {
            0 => credential,
            length => &credential[..length.min(credential.len())],
        }
    }

    /// Whether `committer`, a member, may commit `proposals`.
    pub fn judge(
        &self,
        committer: &SigningIdentity,
        roster: &Roster<'_>,
        changes_extensions: bool,
        proposals: &ProposalBundle,
    ) -> Result<(), Refusal> {
        let me = self.id(committer);
        let members: HashSet<&[u8]> = roster
            .member_identities_iter()
            .map(|i| self.id(i))
            .collect();
        let governed = self
            .admins
            .iter()
            .any(|admin| members.contains(admin.as_slice()));
        let admin = !governed || self.admins.contains(me);
        for proposal in proposals.add_proposals() {
            let id = self.id(proposal.proposal.signing_identity());
            if id == me {
                continue;
            }
            if members.contains(id) {
                if !admin {
                    return Err(Refusal("add-for-another"));
                }
            } else if !self.add.allows(admin) {
                return Err(Refusal("add-not-allowed"));
            }
        }
        for proposal in proposals.remove_proposals() {
            let Ok(leaf) = roster.member_with_index(proposal.proposal.to_remove()) else {
                continue; // mls-rs says why there is nothing to remove
            };
            if self.id(leaf.signing_identity()) != me && !self.remove.allows(admin) {
                return Err(Refusal("remove-not-allowed"));
            }
        }
        if changes_extensions && !admin {
            return Err(Refusal("extensions-not-allowed"));
        }
        Ok(())
    }
}

fn take_u16(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (value, rest) = bytes.split_first_chunk()?;
    Some((usize::from(u16::from_be_bytes(*value)), rest))
}

fn code(name: &str) -> Result<u8, Fault> {
    let found = Who::NAMES.iter().position(|(known, _)| *known == name);
    let found = found.and_then(|place| u8::try_from(place).ok());
    found.ok_or_else(|| Fault::argument("who: \"everyone\", \"admins\" or \"nobody\"".into()))
}

/// The bytes of a policy extension.
#[pyfunction]
#[pyo3(signature = (*, admins, add="everyone", remove="admins", id_length=0))]
pub fn encode_policy(
    admins: Vec<Vec<u8>>,
    add: &str,
    remove: &str,
    id_length: u8,
) -> PyResult<Vec<u8>> {
    let wrong =
        || Fault::argument("admins: distinct ids, at most 65535, of the length given".into());
    let mut out = vec![VERSION, code(add)?, code(remove)?, id_length];
    out.extend(
        u16::try_from(admins.len())
            .map_err(|_| wrong())?
            .to_be_bytes(),
    );
    for id in &admins {
        if id_length == 0 {
            out.extend(u16::try_from(id.len()).map_err(|_| wrong())?.to_be_bytes());
        } else if id.len() != usize::from(id_length) {
            return Err(wrong().into());
        }
        out.extend(id);
    }
    if Policy::decode(&out).is_none() {
        return Err(wrong().into());
    }
    Ok(out)
}
