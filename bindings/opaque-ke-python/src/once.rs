//! A state between two messages, which is taken out once.

use std::sync::{Mutex, PoisonError};

use crate::errors::Fault;

/// Boxed, so that taking it out moves no secret: what the box holds is wiped where it is.
pub struct Once<S>(Mutex<Option<Box<S>>>);

impl<S> Once<S> {
    pub fn new(state: S) -> Self {
        Self(Mutex::new(Some(Box::new(state))))
    }

    pub fn take(&self) -> Result<Box<S>, Fault> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.take().ok_or_else(Fault::used)
    }
}
