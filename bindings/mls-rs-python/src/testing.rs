//! For published test vectors only: KeyPackages whose private keys come from outside.

use mls_rs::mls_rs_codec::MlsEncode;
use mls_rs::storage_provider::KeyPackageData;
use pyo3::prelude::*;

use crate::client::Client;
use crate::errors::{Fault, Kind};
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

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(_dangerous_import_key_package, module)?)
}
