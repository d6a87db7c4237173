//! The one configuration: ristretto255, 3DH, SHA-512. And how its messages are read.

use opaque_ke::errors::ProtocolError;
use opaque_ke::generic_array::{ArrayLength, GenericArray};
use opaque_ke::{CipherSuite, Ristretto255, TripleDh};
use zeroize::{Zeroize, Zeroizing};

use crate::errors::Fault;
use crate::ksf::Ksf;

pub struct Suite;

impl CipherSuite for Suite {
    type OprfCs = Ristretto255;
    type KeyExchange = TripleDh<Ristretto255, sha2::Sha512>;
    type Ksf = Ksf;
}

pub const ELEMENT: usize = 32;
pub const HASH: usize = 64;
pub const RECORD: usize = ELEMENT + HASH + ENVELOPE;
const NONCE: usize = 32;
const ENVELOPE: usize = NONCE + HASH;

/// What a message is: its length, and the code of the error when it is not that.
pub struct Kind {
    length: usize,
    code: &'static str,
}

pub const REGISTRATION_REQUEST: Kind = Kind::new(ELEMENT, "malformed-request");
pub const REGISTRATION_RESPONSE: Kind = Kind::new(2 * ELEMENT, "malformed-response");
pub const UPLOAD: Kind = Kind::new(RECORD, "malformed-upload");
pub const STORED_RECORD: Kind = Kind::new(RECORD, "malformed-record");
pub const KE1: Kind = Kind::new(2 * ELEMENT + NONCE, "malformed-request");
pub const KE2: Kind = Kind::new(
    ELEMENT + NONCE + ELEMENT + ENVELOPE + NONCE + ELEMENT + HASH,
    "malformed-response",
);
pub const KE3: Kind = Kind::new(HASH, "malformed-finalization");
/// Version, OPRF seed, private key, the public key that stands in for an unknown user's.
pub const SETUP: Kind = Kind::new(1 + HASH + 2 * ELEMENT, "malformed-setup");

impl Kind {
    const fn new(length: usize, code: &'static str) -> Self {
        Self { length, code }
    }

    /// Reads a message of exactly this length: opaque-ke itself ignores what follows one.
    pub fn read<M, E>(
        &self,
        data: &[u8],
        deserialize: impl FnOnce(&[u8]) -> Result<M, ProtocolError<E>>,
    ) -> Result<M, Fault> {
        if data.len() != self.length {
            let text = format!("{} bytes instead of {}", data.len(), self.length);
            return Err(Fault::decode(self.code, text));
        }
        deserialize(data).map_err(|_| Fault::decode(self.code, "not an element of the group"))
    }
}

/// A secret that opaque-ke returned, to be wiped from here on.
pub fn secret<L: ArrayLength<u8>>(mut from: GenericArray<u8, L>) -> Zeroizing<Vec<u8>> {
    let kept = Zeroizing::new(from.to_vec());
    from.as_mut_slice().zeroize();
    kept
}
