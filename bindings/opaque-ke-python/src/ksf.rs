//! Key stretching, by version: a record is only of use with the version it was made with.

use argon2::{Algorithm, Argon2, Block, Params, Version};
use opaque_ke::errors::InternalError;
use opaque_ke::generic_array::{ArrayLength, GenericArray};
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use zeroize::{Zeroize, Zeroizing};

use crate::errors::Fault;

pub const LATEST: u8 = 1;
const VERSIONS: [u8; 1] = [1];
/// RFC 9807, section 7: 16 zero bytes. The OPRF's output is already salted, by its key.
const SALT: [u8; 16] = [0; 16];

#[derive(Clone, Copy, Debug, Default)]
pub enum Ksf {
    /// Version 1: Argon2id, 64 MiB, 3 passes, 4 lanes (RFC 9106, section 4, second choice).
    #[default]
    Argon2id,
    #[cfg(feature = "vectors")]
    Identity,
}

pub fn versions(py: Python<'_>) -> PyResult<Bound<'_, PyTuple>> {
    PyTuple::new(py, VERSIONS)
}

/// Version `version` alone, to be compared with another implementation.
#[cfg(feature = "vectors")]
#[pyfunction]
pub fn stretch(version: i64, input: [u8; 64]) -> PyResult<Vec<u8>> {
    let stretched = opaque_ke::ksf::Ksf::hash(&Ksf::of(version)?, input.into())
        .map_err(opaque_ke::errors::ProtocolError::from)
        .map_err(Fault::from)?;
    Ok(stretched.to_vec())
}

impl Ksf {
    pub fn of(version: i64) -> Result<Self, Fault> {
        match version {
            1 => Ok(Self::Argon2id),
            #[cfg(feature = "vectors")]
            0 => Ok(Self::Identity),
            _ => Err(Fault::argument(format!("ksf must be one of {VERSIONS:?}"))),
        }
    }
}

impl opaque_ke::ksf::Ksf for Ksf {
    fn hash<L: ArrayLength<u8>>(
        &self,
        mut input: GenericArray<u8, L>,
    ) -> Result<GenericArray<u8, L>, InternalError> {
        match self {
            Self::Argon2id => {
                let mut output = GenericArray::default();
                let done = argon2id(&input, &mut output);
                input.as_mut_slice().zeroize();
                done.map(|()| output)
            }
            #[cfg(feature = "vectors")]
            Self::Identity => Ok(input),
        }
    }
}

/// Fails only if there is no memory.
fn argon2id(input: &[u8], output: &mut [u8]) -> Result<(), InternalError> {
    let failed = |_| InternalError::KsfError;
    let params = Params::new(64 * 1024, 3, 4, Some(output.len())).map_err(failed)?;
    let mut memory = Zeroizing::new(Vec::new());
    memory
        .try_reserve_exact(params.block_count())
        .map_err(|_| InternalError::KsfError)?;
    memory.resize(params.block_count(), Block::default());
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into_with_memory(input, &SALT, output, memory.as_mut_slice())
        .map_err(failed)
}
