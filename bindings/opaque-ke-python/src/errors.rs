//! One error type inside, one exception per meaning outside, and the mapping from opaque-ke's errors.

use opaque_ke::errors::{InternalError, ProtocolError};
use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyMemoryError, PyValueError};
use pyo3::prelude::*;

create_exception!(
    opaque_ke,
    OpaqueError,
    PyException,
    "Base of every error this package raises on purpose. `code` is stable, in kebab-case."
);
create_exception!(
    opaque_ke,
    DecodeError,
    OpaqueError,
    "Bytes that are not the message they should be: wrong length, not a group element."
);
create_exception!(
    opaque_ke,
    InvalidLogin,
    OpaqueError,
    "Wrong password, unknown user, other context or identities, or a message tampered with: which of them cannot be told."
);
create_exception!(
    opaque_ke,
    StateUsed,
    OpaqueError,
    "`finish` was called before on this object; each has one try."
);

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    for (name, class, code) in [
        ("OpaqueError", py.get_type::<OpaqueError>(), "opaque-error"),
        ("DecodeError", py.get_type::<DecodeError>(), "malformed"),
        ("InvalidLogin", py.get_type::<InvalidLogin>(), LOGIN),
        ("StateUsed", py.get_type::<StateUsed>(), USED),
    ] {
        class.setattr("code", code)?;
        module.add(name, class)?;
    }
    Ok(())
}

const LOGIN: &str = "invalid-login";
const USED: &str = "state-used";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    Argument,
    Memory,
    Decode,
    Login,
    Used,
    Internal,
}

/// What went wrong: what it means, a stable code, words.
#[derive(Debug)]
pub struct Fault {
    meaning: Meaning,
    code: &'static str,
    text: String,
}

impl Fault {
    fn new(meaning: Meaning, code: &'static str, text: impl Into<String>) -> Self {
        let text = text.into();
        Self {
            meaning,
            code,
            text,
        }
    }

    /// A ValueError: the caller passed something that can never be right.
    pub fn argument(text: impl Into<String>) -> Self {
        Self::new(Meaning::Argument, "argument", text)
    }

    pub fn decode(code: &'static str, text: impl Into<String>) -> Self {
        Self::new(Meaning::Decode, code, text)
    }

    pub fn used() -> Self {
        let text = "this object had its one try; begin again with a new one";
        Self::new(Meaning::Used, USED, text)
    }

    /// A message was bad, and nothing else.
    #[cfg(fuzzing)]
    pub fn is_of_peers(&self) -> bool {
        matches!(self.meaning, Meaning::Decode | Meaning::Login)
    }

    fn raise(self, py: Python<'_>) -> PyResult<PyErr> {
        let text = format!("{} [{}]", self.text, self.code);
        let error = match self.meaning {
            Meaning::Argument => return Ok(PyValueError::new_err(self.text)),
            Meaning::Memory => return Ok(PyMemoryError::new_err(self.text)),
            Meaning::Decode => DecodeError::new_err(text),
            Meaning::Login => InvalidLogin::new_err(text),
            Meaning::Used => StateUsed::new_err(text),
            Meaning::Internal => OpaqueError::new_err(text),
        };
        error.value(py).setattr("code", self.code)?;
        Ok(error)
    }
}

impl From<Fault> for PyErr {
    fn from(fault: Fault) -> Self {
        Python::attach(|py| fault.raise(py).unwrap_or_else(|failed| failed))
    }
}

/// Of a step of the protocol; messages were read before it.
impl From<ProtocolError> for Fault {
    fn from(error: ProtocolError) -> Self {
        match error {
            ProtocolError::ReflectedValueError => {
                Self::decode("reflected", "the response sends the request back")
            }
            ProtocolError::LibraryError(InternalError::KsfError) => {
                Self::new(Meaning::Memory, "memory", "no 64 MiB for key stretching")
            }
            ProtocolError::LibraryError(error) => {
                Self::new(Meaning::Internal, "internal", error.to_string())
            }
            // What the password opens is only then read: a wrong one gives bytes of any kind.
            ProtocolError::InvalidLoginError
            | ProtocolError::SerializationError
            | ProtocolError::SizeError { .. } => Self::new(
                Meaning::Login,
                LOGIN,
                "wrong password, unknown user, or not the same context and identities",
            ),
            ProtocolError::Custom(never) => match never {},
        }
    }
}

/// Runs code that reads a peer's bytes; a panic becomes an error of this package.
pub fn contained<R>(run: impl FnOnce() -> Result<R, Fault>) -> Result<R, Fault> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).unwrap_or_else(|_| {
        Err(Fault::new(
            Meaning::Internal,
            "internal-panic",
            "a bug, reached by this input",
        ))
    })
}
