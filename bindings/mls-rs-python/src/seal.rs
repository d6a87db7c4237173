//! Sealing of stored blobs: `version(1) ‖ salt(32) ‖ ciphertext ‖ tag(16)`.
//!
//! Each blob has its own AES-256-GCM key and nonce, both from HKDF-SHA256 of the storage key with a
//! fresh 32-byte salt, so there is no bound on the number of blobs under one storage key. The
//! associated data names what the blob is; opening it as anything else fails. The layout inside
//! depends on mls-rs's feature set: a change of either raises VERSION.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::{hkdf, rand};
use zeroize::Zeroizing;

use crate::errors::{Fault, Kind};

/// 1: a state has no account of skipped keys. Otherwise equal to 2, and still read.
const OLDEST: u8 = 1;
const VERSION: u8 = 2;
const SALT: usize = 32;
const KEY: usize = 32;
const NONCE: usize = 12;
const TAG: usize = 16;
const LABEL: &[u8] = b"mls-rs-python blob";

#[derive(Clone, Copy)]
pub enum What {
    State = 1,
    Tree = 2,
    Epoch = 3,
    KeyPackage = 4,
    PendingCommit = 5,
}

pub struct Sealer(hkdf::Prk);

struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

impl Sealer {
    pub fn new(storage_key: &[u8]) -> Result<Self, Fault> {
        if storage_key.len() != 32 {
            return Err(Fault::argument("storage_key must hold 32 bytes".into()));
        }
        Ok(Self(
            hkdf::Salt::new(hkdf::HKDF_SHA256, LABEL).extract(storage_key),
        ))
    }

    pub fn seal(
        &self,
        what: What,
        group_id: &[u8],
        id: &[u8],
        plaintext: &[u8],
    ) -> Result<Vec<u8>, Fault> {
        let mut salt = [0; SALT];
        rand::fill(&mut salt).map_err(|_| internal())?;
        let (key, nonce) = self.key(VERSION, &salt)?;
        let mut body = Zeroizing::new(Vec::with_capacity(plaintext.len() + TAG));
        body.extend_from_slice(plaintext);
        key.seal_in_place_append_tag(
            nonce,
            Aad::from(binding(VERSION, what, group_id, id)),
            &mut *body,
        )
        .map_err(|_| internal())?;
        let mut blob = Vec::with_capacity(1 + SALT + body.len());
        blob.push(VERSION);
        blob.extend_from_slice(&salt);
        blob.extend_from_slice(&body);
        Ok(blob)
    }

    pub fn open(
        &self,
        what: What,
        group_id: &[u8],
        id: &[u8],
        blob: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Fault> {
        let refused = || {
            Fault::new(
                Kind::Blob,
                "tampered",
                "not a blob of this kind, place and key",
            )
        };
        let (version, rest) = blob.split_first().ok_or_else(refused)?;
        if *version > VERSION {
            let text = format!("blob version {version}, this package reads up to {VERSION}");
            return Err(Fault::new(Kind::Blob, "newer-version", text));
        }
        if *version < OLDEST {
            return Err(refused());
        }
        let (salt, body) = rest.split_at_checked(SALT).ok_or_else(refused)?;
        let (key, nonce) = self.key(*version, salt)?;
        let mut body = Zeroizing::new(body.to_vec());
        let length = key
            .open_in_place(
                nonce,
                Aad::from(binding(*version, what, group_id, id)),
                &mut body,
            )
            .map_err(|_| refused())?
            .len();
        body.truncate(length);
        Ok(body)
    }

    fn key(&self, version: u8, salt: &[u8]) -> Result<(LessSafeKey, Nonce), Fault> {
        let mut okm = Zeroizing::new([0; KEY + NONCE]);
        self.0
            .expand(&[LABEL, &[version], salt], Length(KEY + NONCE))
            .and_then(|output| output.fill(&mut *okm))
            .map_err(|_| internal())?;
        let (key, nonce) = okm.split_at(KEY);
        let key = UnboundKey::new(&AES_256_GCM, key).map_err(|_| internal())?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| internal())?;
        Ok((LessSafeKey::new(key), nonce))
    }
}

/// Injective: each variable part is preceded by its length.
fn binding(version: u8, what: What, group_id: &[u8], id: &[u8]) -> Vec<u8> {
    let mut out = LABEL.to_vec();
    out.extend_from_slice(&[version, what as u8]);
    for part in [group_id, id] {
        out.extend_from_slice(&(part.len() as u64).to_be_bytes());
        out.extend_from_slice(part);
    }
    out
}

fn internal() -> Fault {
    Fault::new(Kind::Other, "internal", "sealing failed")
}
