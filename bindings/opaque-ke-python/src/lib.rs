//! The Python module `opaque_ke._native`: it only lists what the other modules define.
#![forbid(unsafe_code)]

mod arguments;
mod client;
mod errors;
#[cfg(fuzzing)]
pub mod fuzzing;
mod ksf;
mod once;
mod random;
mod server;
mod suite;

use pyo3::prelude::*;

#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    errors::register(module)?;
    module.add("KSF_LATEST", ksf::LATEST)?;
    module.add("KSF_VERSIONS", ksf::versions(module.py())?)?;
    module.add_class::<server::ServerSetup>()?;
    module.add_class::<server::ServerLogin>()?;
    module.add_class::<client::ClientRegistration>()?;
    module.add_class::<client::Registration>()?;
    module.add_class::<client::ClientLogin>()?;
    module.add_class::<client::Login>()?;
    #[cfg(feature = "vectors")]
    {
        module.add_function(wrap_pyfunction!(random::play, module)?)?;
        module.add_function(wrap_pyfunction!(ksf::stretch, module)?)?;
    }
    module.add_function(wrap_pyfunction!(server::check_record, module)?)
}
