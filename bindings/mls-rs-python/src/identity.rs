//! Credentials: Basic only, judged by the caller's Python function.

use mls_rs::error::IntoAnyError;
use mls_rs::identity::basic::BasicCredential;
use mls_rs::identity::{CredentialType, SigningIdentity};
use mls_rs::time::MlsTime;
use mls_rs::{ExtensionList, IdentityProvider};
use mls_rs_core::identity::MemberValidationContext;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::callback::Callback;

/// Why a credential was refused.
#[derive(Debug)]
pub enum Refused {
    Raised(PyErr),
    NotBasic,
    ExternalSender,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Raised(_) => "the validator refused a credential",
            Self::NotBasic => "not a Basic credential",
            Self::ExternalSender => "external senders are not supported",
        })
    }
}

impl std::error::Error for Refused {}

impl IntoAnyError for Refused {
    fn into_dyn_error(self) -> Result<Box<dyn std::error::Error + Send + Sync>, Self> {
        Ok(Box::new(self))
    }
}

/// Calls the Python validator; a clone shares it.
#[derive(Clone)]
pub struct Validator(Option<Callback>);

impl Validator {
    pub fn new(callback: Callback) -> Self {
        Self(Some(callback))
    }

    /// Accepts every Basic credential; for looking at a KeyPackage without a client.
    pub fn anyone() -> Self {
        Self(None)
    }

    fn ask(&self, key: &[u8], credential: &[u8]) -> PyResult<()> {
        let Some(callback) = &self.0 else {
            return Ok(());
        };
        Python::attach(|py| {
            let arguments = (PyBytes::new(py, key), PyBytes::new(py, credential));
            callback.call(py, arguments)
        })
    }
}

pub fn basic(identity: &SigningIdentity) -> Option<&[u8]> {
    identity
        .credential
        .as_basic()
        .map(BasicCredential::identifier)
}

impl IdentityProvider for Validator {
    type Error = Refused;

    fn validate_member(
        &self,
        identity: &SigningIdentity,
        _timestamp: Option<MlsTime>,
        _context: MemberValidationContext<'_>,
    ) -> Result<(), Refused> {
        let credential = basic(identity).ok_or(Refused::NotBasic)?;
        self.ask(identity.signature_key.as_bytes(), credential)
            .map_err(Refused::Raised)
    }

    fn validate_external_sender(
        &self,
        _identity: &SigningIdentity,
        _timestamp: Option<MlsTime>,
        _extensions: Option<&ExtensionList>,
    ) -> Result<(), Refused> {
        Err(Refused::ExternalSender)
    }

    /// RFC 9420 section 7.3 wants signature keys unique in a group, and nothing more: two devices
    /// may share a credential.
    fn identity(
        &self,
        identity: &SigningIdentity,
        _extensions: &ExtensionList,
    ) -> Result<Vec<u8>, Refused> {
        Ok(identity.signature_key.to_vec())
    }

    /// A leaf keeps its key and its credential as long as it lives.
    fn valid_successor(
        &self,
        predecessor: &SigningIdentity,
        successor: &SigningIdentity,
        _extensions: &ExtensionList,
    ) -> Result<bool, Refused> {
        Ok(predecessor == successor)
    }

    fn supported_types(&self) -> Vec<CredentialType> {
        vec![BasicCredential::credential_type()]
    }
}
