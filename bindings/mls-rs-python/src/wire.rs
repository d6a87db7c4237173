//! Reading messages without a group: exact parsing, headers, KeyPackages.

use mls_rs::extension::ExtensionType;
use mls_rs::external_client::ExternalClient;
use mls_rs::group::{ContentType, ExportedTree, LeafNode, LeafNodeSource};
use mls_rs::mls_rs_codec::{MlsDecode, MlsEncode};
use mls_rs::{KeyPackage, MlsMessage, MlsMessageDescription};
use pyo3::prelude::*;

use crate::errors::{Fault, Kind, contained};
use crate::identity::{Validator, basic};
use crate::rules::Rules;
use crate::suite;
use crate::values::{Header, KeyPackageInfo};

/// RFC 9420 section 6: an MLSMessage starts with its protocol version.
const MLS_10: [u8; 2] = [0, 1];

/// Decodes one message and nothing after it: mls-rs ignores trailing bytes, which would give one
/// message many byte strings.
pub fn parse(bytes: &[u8]) -> Result<MlsMessage, Fault> {
    contained(|| {
        if !bytes.starts_with(&MLS_10) {
            return Err(Fault::decode("unsupported-version", "not MLS 1.0"));
        }
        let message = MlsMessage::from_bytes(bytes)?;
        if message.to_bytes()? != bytes {
            return Err(Fault::decode(
                "not-canonical",
                "trailing bytes, or another encoding",
            ));
        }
        Ok(message)
    })
}

pub fn parse_tree(bytes: &[u8]) -> Result<ExportedTree<'static>, Fault> {
    contained(|| {
        let tree = ExportedTree::from_bytes(bytes)?;
        if tree.to_bytes()? != bytes {
            return Err(Fault::decode(
                "not-canonical",
                "trailing bytes, or another encoding",
            ));
        }
        Ok(tree)
    })
}

fn content_name(content: ContentType) -> &'static str {
    match content {
        ContentType::Application => "application",
        ContentType::Proposal => "proposal",
        ContentType::Commit => "commit",
    }
}

/// What can be read of a message without any key.
#[pyfunction]
pub fn inspect(message: &[u8]) -> PyResult<Header> {
    let parsed = parse(message)?;
    let (kind, content) = match parsed.description() {
        MlsMessageDescription::Welcome { .. } => ("welcome", None),
        MlsMessageDescription::GroupInfo => ("group-info", None),
        MlsMessageDescription::KeyPackage => ("key-package", None),
        MlsMessageDescription::PrivateProtocolMessage { content_type, .. } => {
            ("private", Some(content_name(content_type)))
        }
        MlsMessageDescription::PublicProtocolMessage { content_type, .. } => {
            ("public", Some(content_name(content_type)))
        }
    };
    let group_id = parsed.group_id().map(<[u8]>::to_vec);
    Ok(Header {
        kind,
        content,
        group_id,
        epoch: parsed.epoch(),
    })
}

/// The KeyPackageRefs that a Welcome is for.
#[pyfunction]
pub fn welcome_references(welcome: &[u8]) -> PyResult<Vec<Vec<u8>>> {
    match parse(welcome)?.description() {
        MlsMessageDescription::Welcome {
            key_package_refs, ..
        } => Ok(key_package_refs
            .iter()
            .map(|reference| reference.to_vec())
            .collect()),
        _ => Err(Fault::decode("unexpected-message", "not a Welcome").into()),
    }
}

/// The KeyPackage inside a message, or DecodeError.
pub fn key_package(message: &MlsMessage) -> Result<&KeyPackage, Fault> {
    message
        .as_key_package()
        .ok_or_else(|| Fault::decode("unexpected-message", "not a KeyPackage"))
}

/// Its lifetime. mls-rs does not expose the leaf of a KeyPackage, so it is decoded once more
/// (RFC 9420 section 10: version, suite, init key, leaf).
pub fn lifetime(package: &KeyPackage) -> Result<(u64, u64), Fault> {
    let bytes = package.mls_encode_to_vec()?;
    let mut rest = bytes.as_slice();
    u16::mls_decode(&mut rest)?;
    u16::mls_decode(&mut rest)?;
    mls_rs::crypto::HpkePublicKey::mls_decode(&mut rest)?;
    match LeafNode::mls_decode(&mut rest)?.leaf_node_source {
        LeafNodeSource::KeyPackage(lifetime) => Ok((
            lifetime.not_before.seconds_since_epoch(),
            lifetime.not_after.seconds_since_epoch(),
        )),
        _ => Err(Fault::decode(
            "invalid-leaf-node-source",
            "not the leaf of a KeyPackage",
        )),
    }
}

pub fn verified(message: &[u8]) -> Result<KeyPackageInfo, Fault> {
    let parsed = parse(message)?;
    let package = key_package(&parsed)?;
    let crypto = suite::implementation(package.cipher_suite)
        .ok_or_else(|| Fault::decode("unsupported-suite", "a cipher suite unknown here"))?;
    let identity = package.signing_identity();
    let credential = basic(identity)
        .ok_or_else(|| Fault::decode("unsupported-credential", "not a Basic credential"))?;
    let (not_before, not_after) = lifetime(package)?;
    let reference = parsed
        .key_package_reference(&crypto)?
        .ok_or_else(|| Fault::decode("unexpected-message", "not a KeyPackage"))?;
    let info = KeyPackageInfo {
        suite: package.cipher_suite.into(),
        signature_key: identity.signature_key.to_vec(),
        credential: credential.to_vec(),
        not_before,
        not_after,
        reference: reference.to_vec(),
        last_resort: package
            .extensions
            .has_extension(ExtensionType::LAST_RESORT_KEY_PACKAGE),
    };
    let client = ExternalClient::builder()
        .crypto_provider(suite::provider())
        .identity_provider(Validator::anyone())
        .mls_rules(Rules::default())
        .build();
    // The clock is the caller's business: any moment of the lifetime will do here.
    client
        .validate_key_package(parsed.clone(), Some(not_before.into()))
        .map_err(|error| Fault::from(error).with_kind(Kind::Authentication))?;
    Ok(info)
}

/// Verifies both signatures of a KeyPackage and returns what it says. Lifetimes are not judged.
#[pyfunction]
pub fn verify_key_package(message: &[u8]) -> PyResult<KeyPackageInfo> {
    Ok(contained(|| verified(message))?)
}
