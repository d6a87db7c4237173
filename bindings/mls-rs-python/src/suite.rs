//! The two cipher suites, and the cryptographic provider that has exactly these.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use mls_rs::crypto::{SignaturePublicKey, SignatureSecretKey};
use mls_rs::{CipherSuite, CryptoProvider};
use mls_rs_crypto_awslc::{AwsLcCipherSuite, AwsLcCryptoProvider};

use crate::errors::{Fault, Kind};

pub const CLASSIC: u16 = 1;
pub const HYBRID: u16 = 65_100;

pub fn provider() -> AwsLcCryptoProvider {
    AwsLcCryptoProvider::with_enabled_cipher_suites(vec![
        CipherSuite::new(CLASSIC),
        CipherSuite::new(HYBRID),
    ])
}

/// The suite's implementation, or None for a suite this package does not have.
pub fn implementation(suite: CipherSuite) -> Option<AwsLcCipherSuite> {
    match u16::from(suite) {
        CLASSIC | HYBRID => provider().cipher_suite_provider(suite),
        _ => None,
    }
}

/// Only for arguments of our own caller; what peers send is refused with a typed error.
pub fn from_argument(suite: u16) -> Result<CipherSuite, Fault> {
    match suite {
        CLASSIC | HYBRID => Ok(CipherSuite::new(suite)),
        _ => Err(Fault::argument(format!(
            "no such cipher suite here: {suite}"
        ))),
    }
}

/// Ed25519 key pair of a 32-byte seed. The provider believes the second half of a 64-byte secret
/// key, so that half is always derived here and never taken from outside.
pub fn signing_keys(seed: &[u8]) -> Result<(SignatureSecretKey, SignaturePublicKey), Fault> {
    let pair = Ed25519KeyPair::from_seed_unchecked(seed)
        .map_err(|_| Fault::argument("signing_seed must hold 32 bytes".into()))?;
    let public = pair.public_key().as_ref().to_vec();
    // Grown in place, a vector would leave a copy of the seed behind.
    let mut secret = Vec::with_capacity(seed.len() + public.len());
    secret.extend_from_slice(seed);
    secret.extend_from_slice(&public);
    if secret.len() != 64 {
        return Err(Fault::new(Kind::Other, "internal", "Ed25519 key sizes"));
    }
    Ok((secret.into(), public.into()))
}
