//! Which message keys were skipped, so that a member who floods future generations cannot grow a
//! state without bound.
//!
//! mls-rs keeps each skipped key until its message comes, and refuses only jumps of more than 1,024
//! generations. It takes a key out when asked for it, which is how the oldest are dropped in the
//! current epoch. It gives no handle on prior epochs: a jump beyond the caps is refused there.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use mls_rs::mls_rs_codec::{self, MlsDecode, MlsEncode, MlsSize};

/// Skipped keys of one sender in one epoch.
pub const PER_SENDER: usize = 1024;
/// Skipped keys of all senders in one epoch.
pub const PER_GROUP: usize = 4096;
/// Prior epochs that are kept account of.
const PRIOR_EPOCHS: usize = crate::storage::EPOCHS_IN_MEMORY;

#[derive(Clone, Default)]
struct Sender {
    next: u32,
    skipped: BTreeSet<u32>,
}

#[derive(Clone, Default)]
struct Epoch {
    number: u64,
    /// Seen from its first message on; otherwise a sender's first generation counts as its start.
    complete: bool,
    senders: BTreeMap<u32, Sender>,
}

impl Epoch {
    fn new(number: u64, complete: bool) -> Self {
        Self {
            number,
            complete,
            senders: BTreeMap::new(),
        }
    }

    fn note(&mut self, leaf: u32, generation: u32) {
        let complete = self.complete;
        let sender = self.senders.entry(leaf).or_insert_with(|| Sender {
            next: if complete { 0 } else { generation },
            skipped: BTreeSet::new(),
        });
        if generation < sender.next {
            sender.skipped.remove(&generation);
        } else {
            sender.skipped.extend(sender.next..generation);
            sender.next = generation.saturating_add(1);
        }
    }

    fn total(&self) -> usize {
        self.senders
            .values()
            .map(|sender| sender.skipped.len())
            .sum()
    }

    fn of(&self, leaf: u32) -> usize {
        self.senders
            .get(&leaf)
            .map_or(0, |sender| sender.skipped.len())
    }

    fn over(&self, leaf: u32) -> bool {
        self.of(leaf) > PER_SENDER || self.total() > PER_GROUP
    }

    /// Takes the oldest key of the sender who holds most, so that a flood costs the one who sent it.
    fn drop_oldest(&mut self) -> Option<(u32, u32)> {
        let (leaf, sender) = self
            .senders
            .iter_mut()
            .max_by_key(|(_, sender)| sender.skipped.len())?;
        Some((*leaf, sender.skipped.pop_first()?))
    }
}

/// The account of one group.
#[derive(Clone, Default)]
pub struct Ledger {
    epochs: VecDeque<Epoch>,
    pub dropped: u64,
}

impl Ledger {
    /// For a group that was just made or joined.
    pub fn begin(epoch: u64) -> Self {
        Self {
            epochs: VecDeque::from([Epoch::new(epoch, true)]),
            dropped: 0,
        }
    }

    /// For a group whose past is unknown.
    pub fn unknown(epoch: u64) -> Self {
        Self {
            epochs: VecDeque::from([Epoch::new(epoch, false)]),
            dropped: 0,
        }
    }

    pub fn enter(&mut self, epoch: u64) {
        self.epochs.push_back(Epoch::new(epoch, true));
        while self.epochs.len() > PRIOR_EPOCHS + 1 {
            self.epochs.pop_front();
        }
    }

    /// Counts a message that was opened in the current epoch; `drop` takes each key that has to go.
    pub fn received(&mut self, leaf: u32, generation: u32, mut drop: impl FnMut(u32, u32)) {
        let Some(current) = self.epochs.back_mut() else {
            return;
        };
        current.note(leaf, generation);
        while current.over(leaf) {
            let Some((leaf, generation)) = current.drop_oldest() else {
                break;
            };
            drop(leaf, generation);
            self.dropped += 1;
        }
    }

    /// Counts a late message; false when it jumped over more keys than may be kept.
    pub fn received_late(&mut self, epoch: u64, leaf: u32, generation: u32) -> bool {
        let place = match self.epochs.iter().position(|known| known.number == epoch) {
            Some(place) => place,
            None => {
                // Its rows were kept longer than its account.
                self.epochs.push_front(Epoch::new(epoch, false));
                0
            }
        };
        let known = &mut self.epochs[place];
        let before = known.of(leaf);
        known.note(leaf, generation);
        known.of(leaf) <= before || !known.over(leaf)
    }

    /// Skipped keys in the current epoch and in the prior ones.
    pub fn skipped(&self) -> usize {
        self.epochs.iter().map(Epoch::total).sum()
    }

    pub fn encode(&self) -> Result<Vec<u8>, mls_rs_codec::Error> {
        let epochs = self.epochs.iter().map(|epoch| EpochRow {
            number: epoch.number,
            complete: epoch.complete,
            senders: epoch
                .senders
                .iter()
                .map(|(leaf, sender)| SenderRow {
                    leaf: *leaf,
                    next: sender.next,
                    runs: runs(&sender.skipped),
                })
                .collect(),
        });
        Rows {
            epochs: epochs.collect(),
            dropped: self.dropped,
        }
        .mls_encode_to_vec()
    }

    /// None when the bytes are no account, or one that no flood could have made.
    pub fn decode(mut bytes: &[u8]) -> Option<Self> {
        let rows = Rows::mls_decode(&mut bytes).ok()?;
        let mut epochs = VecDeque::new();
        for row in rows.epochs {
            let mut epoch = Epoch::new(row.number, row.complete);
            for sender in row.senders {
                let mut skipped = BTreeSet::new();
                for run in sender.runs {
                    if run.length as usize > PER_GROUP - skipped.len() {
                        return None;
                    }
                    skipped.extend(run.start..run.start.checked_add(run.length)?);
                }
                let next = sender.next;
                epoch.senders.insert(sender.leaf, Sender { next, skipped });
            }
            epochs.push_back(epoch);
        }
        (bytes.is_empty() && !epochs.is_empty()).then_some(Self {
            epochs,
            dropped: rows.dropped,
        })
    }
}

#[derive(MlsSize, MlsEncode, MlsDecode)]
struct Rows {
    dropped: u64,
    epochs: Vec<EpochRow>,
}

#[derive(MlsSize, MlsEncode, MlsDecode)]
struct EpochRow {
    number: u64,
    complete: bool,
    senders: Vec<SenderRow>,
}

#[derive(MlsSize, MlsEncode, MlsDecode)]
struct SenderRow {
    leaf: u32,
    next: u32,
    runs: Vec<Run>,
}

#[derive(MlsSize, MlsEncode, MlsDecode)]
struct Run {
    start: u32,
    length: u32,
}

fn runs(skipped: &BTreeSet<u32>) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for generation in skipped {
        match runs.last_mut() {
            Some(run) if run.start + run.length == *generation => run.length += 1,
            _ => runs.push(Run {
                start: *generation,
                length: 1,
            }),
        }
    }
    runs
}
