//! For tests only, not re-exported by the package: keys from published test vectors, and a member
//! that breaks the rules. Nothing here weakens a client that was not made here.

use mls_rs::ExtensionList;
use mls_rs::mls_rs_codec::MlsEncode;
use mls_rs::storage_provider::KeyPackageData;
use pyo3::prelude::*;

use crate::client::Client;
use crate::errors::{Fault, Kind};
use crate::group::Group;
use crate::identity::Validator;
use crate::rules::Rules;
use crate::suite;
use crate::wire;

/// Adds a KeyPackage with the given private keys to a client, in memory only; returns its
/// reference. Not for anything but test vectors: a private key that was outside is not private.
#[pyfunction]
fn _dangerous_import_key_package(
    client: &Client,
    message: &[u8],
    init_private: Vec<u8>,
    leaf_private: Vec<u8>,
) -> PyResult<Vec<u8>> {
    let run = || -> Result<Vec<u8>, Fault> {
        let parsed = wire::parse(message)?;
        let package = wire::key_package(&parsed)?;
        let crypto = suite::implementation(package.cipher_suite)
            .ok_or_else(|| Fault::decode("unsupported-suite", "a cipher suite unknown here"))?;
        let reference = parsed
            .key_package_reference(&crypto)?
            .ok_or_else(|| Fault::new(Kind::Other, "internal", "not a KeyPackage"))?;
        let (_, not_after) = wire::lifetime(package)?;
        let bytes = package.mls_encode_to_vec()?;
        let data = KeyPackageData::new(bytes, init_private.into(), leaf_private.into(), not_after);
        client.core.packages.put(&reference, data);
        Ok(reference.to_vec())
    };
    Ok(run()?)
}

/// Gives a client an external pre-shared key.
#[pyfunction]
fn _dangerous_import_psk(client: &Client, id: Vec<u8>, psk: Vec<u8>) {
    client.core.psks.clone().insert(id.into(), psk.into());
}

/// A client without rules and without a validator, to make what others must refuse.
#[pyfunction]
fn _dangerous_lawless_client(seed: &[u8], credential: Vec<u8>) -> PyResult<Client> {
    let rules = Rules { lawless: true };
    Ok(Client::build(
        seed,
        credential,
        &[0; 32],
        Validator::anyone(),
        rules,
        &[],
    )?)
}

/// A proposal by reference, to remove `index`, or an Update without it; the group keeps it for its next commit.
#[pyfunction]
#[pyo3(signature = (group, index=None))]
fn _dangerous_propose(py: Python<'_>, group: &Group, index: Option<u32>) -> PyResult<Vec<u8>> {
    group.raw(py, |group| {
        let message = match index {
            Some(index) => group.propose_remove(index, Vec::new())?,
            None => group.propose_update(Vec::new())?,
        };
        Ok(message.to_bytes()?)
    })
}

/// A commit that re-initialises the group.
#[pyfunction]
fn _dangerous_reinit(py: Python<'_>, group: &Group) -> PyResult<Vec<u8>> {
    group.raw(py, |group| {
        let (version, suite) = (group.protocol_version(), group.cipher_suite());
        let builder = group
            .commit_builder()
            .reinit(None, version, suite, ExtensionList::new())?;
        Ok(builder.build_detached()?.0.commit_message.to_bytes()?)
    })
}

/// A (lawless) client's external commit into somebody's group.
#[pyfunction]
fn _dangerous_external_commit(py: Python<'_>, client: &Client, group: &Group) -> PyResult<Vec<u8>> {
    group.raw(py, |group| {
        let info = group.group_info_message_allowing_ext_commit(true)?;
        let stranger = client
            .core
            .client(group.cipher_suite(), client.core.store(), 1);
        Ok(stranger.commit_external(info)?.1.to_bytes()?)
    })
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(_dangerous_import_key_package, module)?)?;
    module.add_function(wrap_pyfunction!(_dangerous_import_psk, module)?)?;
    module.add_function(wrap_pyfunction!(_dangerous_lawless_client, module)?)?;
    module.add_function(wrap_pyfunction!(_dangerous_propose, module)?)?;
    module.add_function(wrap_pyfunction!(_dangerous_reinit, module)?)?;
    module.add_function(wrap_pyfunction!(_dangerous_external_commit, module)?)
}
