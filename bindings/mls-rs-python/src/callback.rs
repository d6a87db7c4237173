//! The caller's Python functions, called while a group is locked.

use std::cell::Cell;
use std::sync::Arc;

use pyo3::call::PyCallArgs;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

use crate::errors::Fault;

thread_local! {
    static RUNNING: Cell<bool> = const { Cell::new(false) };
}

/// A callable that raises to refuse; a clone shares it.
#[derive(Clone)]
pub struct Callback(Arc<Py<PyAny>>);

impl Callback {
    /// `name` is what the caller knows the argument by.
    pub fn new(callable: &Bound<'_, PyAny>, name: &str) -> PyResult<Self> {
        if !callable.is_callable() {
            return Err(PyTypeError::new_err(format!("{name} must be callable")));
        }
        Ok(Self(Arc::new(callable.clone().unbind())))
    }

    pub fn call<'py>(&self, py: Python<'py>, arguments: impl PyCallArgs<'py>) -> PyResult<()> {
        struct Reset(bool);
        impl Drop for Reset {
            fn drop(&mut self) {
                RUNNING.set(self.0);
            }
        }
        let _reset = Reset(RUNNING.replace(true));
        self.0.call1(py, arguments).map(drop)
    }
}

/// A callback runs while its group is locked: coming back from there would hang for ever.
pub fn may_lock() -> Result<(), Fault> {
    if RUNNING.get() {
        return Err(Fault::misuse(
            "validate_credential and authorize_commit must not use groups or the client",
        ));
    }
    Ok(())
}
