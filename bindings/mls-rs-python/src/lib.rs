//! The Python module `mls_rs._native`: it only lists what the other modules define.
#![forbid(unsafe_code)]

mod authorize;
mod callback;
mod client;
mod core;
mod describe;
mod errors;
mod external;
#[cfg(fuzzing)]
pub mod fuzzing;
mod group;
mod identity;
mod inner;
mod ledger;
mod pending;
mod policy;
mod rules;
mod seal;
mod storage;
mod stored;
mod suite;
mod values;
mod wire;

use pyo3::prelude::*;

#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    errors::register(module)?;
    module.add("CLASSIC", suite::CLASSIC)?;
    module.add("HYBRID", suite::HYBRID)?;
    module.add_class::<values::KeyPackage>()?;
    module.add_class::<values::KeyPackageInfo>()?;
    module.add_class::<values::Member>()?;
    module.add_class::<values::Header>()?;
    module.add_class::<values::LogEntry>()?;
    module.add_class::<values::Message>()?;
    module.add_class::<values::Commit>()?;
    module.add_class::<authorize::Change>()?;
    module.add_class::<pending::PendingCommit>()?;
    module.add_class::<group::Group>()?;
    module.add_class::<client::Client>()?;
    module.add_function(wrap_pyfunction!(wire::inspect, module)?)?;
    module.add_function(wrap_pyfunction!(wire::welcome_references, module)?)?;
    module.add_function(wrap_pyfunction!(wire::verify_key_package, module)?)?;
    module.add_function(wrap_pyfunction!(policy::encode_policy, module)?)
}
