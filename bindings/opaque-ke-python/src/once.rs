//! A state between two messages, which is taken out once.

use std::sync::{Mutex, PoisonError};

use crate::errors::Fault;

pub struct Once<S>(Mutex<Option<S>>);

impl<S> Once<S> {
    pub fn new(state: S) -> Self {
        Self(Mutex::new(Some(state)))
    }

    pub fn take(&self) -> Result<S, Fault> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.take().ok_or_else(Fault::used)
    }
}
