//! One error type inside, one exception per meaning outside, and the mapping from mls-rs's errors.

use mls_rs::error::MlsError as Upstream;
use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyRuntimeError, PyValueError};
use pyo3::prelude::*;

use crate::identity::Refused;
use crate::rules::Refusal;

/// Creates the exceptions, `Kind` and the mapping between them from one list.
macro_rules! exceptions {
    ($($kind:ident $name:ident $doc:literal;)*) => {
        create_exception!(mls_rs, MlsError, PyException,
            "Base of every error this package raises on purpose. `code` is stable, in kebab-case.");
        $(create_exception!(mls_rs, $name, MlsError, $doc);)*

        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Kind { Other, Argument, Misuse, $($kind,)* }

        fn exception(kind: Kind, text: String) -> PyErr {
            match kind {
                Kind::Other => MlsError::new_err(text),
                Kind::Argument => PyValueError::new_err(text),
                Kind::Misuse => PyRuntimeError::new_err(text),
                $(Kind::$kind => $name::new_err(text),)*
            }
        }

        pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
            let py = module.py();
            let base = py.get_type::<MlsError>();
            base.setattr("code", "mls-error")?;
            module.add("MlsError", base)?;
            $(module.add(stringify!($name), py.get_type::<$name>())?;)*
            Ok(())
        }
    };
}

exceptions! {
    Decode DecodeError "Not an MLS message, not the expected kind, or with trailing bytes.";
    WrongGroup WrongGroup "The message names another group.";
    EpochTooOld EpochTooOld "A handshake message of an earlier epoch, or a message whose epoch secrets are gone.";
    EpochInFuture EpochInFuture "The message belongs to an epoch this group has not reached.";
    KeyUnavailable KeyUnavailable "The message's key was used already (a duplicate), or lies too far ahead.";
    Authentication AuthenticationFailed "A signature, tag or ciphertext does not verify: tampered, or of another branch.";
    OwnMessage OwnMessage "The message was made by this very client.";
    UnknownKeyPackage UnknownKeyPackage "The Welcome is for somebody else, or its KeyPackage is gone.";
    Refused RefusedByRules "A stranger's external commit, a by-reference proposal, a re-initialisation, or what the group's policy or `authorize_commit` forbids; the exception of the latter is `__cause__`.";
    Credential CredentialRefused "The validator raised; its exception is `__cause__`.";
    InvalidCommit InvalidCommit "The commit or its proposals break RFC 9420 (section 12).";
    Stale StaleCommit "A detached commit applied to a group that is not its base.";
    NotActive NotActive "This client is no longer a member of the group.";
    NoSuchMember NoSuchMember "No leaf with that index, or a late message whose sender has left it.";
    Blob BlobError "A stored blob is tampered with, sealed under another key, or of a newer version.";
}

/// What went wrong: what it means, a stable code, words, and a Python exception behind it if any.
#[derive(Debug)]
pub struct Fault {
    kind: Kind,
    code: String,
    text: String,
    raised: Option<Box<PyErr>>,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} [{}]", self.text, self.code)
    }
}

impl std::error::Error for Fault {}

impl mls_rs::error::IntoAnyError for Fault {
    fn into_dyn_error(self) -> Result<Box<dyn std::error::Error + Send + Sync>, Self> {
        Ok(Box::new(self))
    }
}

impl Fault {
    pub fn new(kind: Kind, code: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            kind,
            code: code.into(),
            text: text.into(),
            raised: None,
        }
    }

    /// A ValueError: the caller passed something that can never be right.
    pub fn argument(text: String) -> Self {
        Self::new(Kind::Argument, "argument", text)
    }

    /// A RuntimeError: the caller broke a rule of this package.
    pub fn misuse(text: &str) -> Self {
        Self::new(Kind::Misuse, "misuse", text)
    }

    pub fn not_active() -> Self {
        Self::new(
            Kind::NotActive,
            "not-active",
            "this client was removed from the group",
        )
    }

    pub fn decode(code: &str, text: impl Into<String>) -> Self {
        Self::new(Kind::Decode, code, text)
    }

    pub fn not_authorized(raised: PyErr) -> Self {
        Self {
            raised: Some(Box::new(raised)),
            ..Refusal("not-authorized").into()
        }
    }

    /// The same cause, with another meaning in this place.
    pub fn with_kind(self, kind: Kind) -> Self {
        Self { kind, ..self }
    }

    /// The exception as a value, for a list of results; an interrupt is raised.
    pub fn into_value(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        let error = self.raise(py)?;
        if !error.is_instance_of::<PyException>(py) {
            return Err(error);
        }
        Ok(error.into_value(py).into_bound(py).into_any())
    }

    fn raise(self, py: Python<'_>) -> PyResult<PyErr> {
        if let Some(raised) = &self.raised {
            if !raised.is_instance_of::<PyException>(py) {
                // KeyboardInterrupt, SystemExit, CancelledError: not ours to translate.
                return Ok(raised.clone_ref(py));
            }
        }
        let error = exception(self.kind, self.to_string());
        if !matches!(self.kind, Kind::Argument | Kind::Misuse) {
            error.value(py).setattr("code", &self.code)?;
        }
        if let Some(raised) = self.raised {
            error.set_cause(py, Some(*raised));
        }
        Ok(error)
    }

    fn refused(error: &Refused) -> Self {
        match error {
            Refused::Raised(raised) => Python::attach(|py| Self {
                raised: Some(Box::new(raised.clone_ref(py))),
                ..Self::new(Kind::Credential, "credential-refused", error.to_string())
            }),
            Refused::NotBasic => Self::new(
                Kind::InvalidCommit,
                "unsupported-credential",
                error.to_string(),
            ),
            Refused::ExternalSender => {
                Self::new(Kind::InvalidCommit, "external-sender", error.to_string())
            }
        }
    }
}

impl From<Fault> for PyErr {
    fn from(fault: Fault) -> Self {
        Python::attach(|py| fault.raise(py).unwrap_or_else(|failed| failed))
    }
}

impl From<mls_rs::mls_rs_codec::Error> for Fault {
    fn from(error: mls_rs::mls_rs_codec::Error) -> Self {
        Self::decode("malformed", error.to_string())
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        Self::new(Kind::Refused, refusal.0, refusal.to_string())
    }
}

impl From<Upstream> for Fault {
    fn from(error: Upstream) -> Self {
        use Upstream as E;
        let (kind, code): (Kind, &str) = match &error {
            E::IdentityProviderError(any) => {
                if let Some(refused) = any.inner_dyn_error().downcast_ref::<Refused>() {
                    return Self::refused(refused);
                }
                (Kind::InvalidCommit, "identity")
            }
            E::MlsRulesError(any) => match any.inner_dyn_error().downcast_ref::<Refusal>() {
                Some(Refusal(code)) => (Kind::Refused, code),
                None => (Kind::Refused, "rules"),
            },
            E::ProposalNotFound => (Kind::Refused, "by-reference-proposal"),
            E::SerializationError(_) | E::ExtensionError(_) => (Kind::Decode, "malformed"),
            E::UnexpectedMessageType
            | E::UnencryptedApplicationMessage
            | E::ProtocolVersionMismatch
            | E::UnsupportedProtocolVersion(_) => (Kind::Decode, "unexpected-message"),
            E::GroupIdMismatch => (Kind::WrongGroup, "wrong-group"),
            E::InvalidEpoch => (Kind::EpochTooOld, "epoch-too-old"),
            E::EpochNotFound => (Kind::EpochTooOld, "epoch-secrets-gone"),
            E::KeyMissing(_) | E::InvalidLeafConsumption => (Kind::KeyUnavailable, "key-used"),
            E::InvalidFutureGeneration(_) => (Kind::KeyUnavailable, "generation-too-far"),
            E::InvalidSignature => (Kind::Authentication, "invalid-signature"),
            E::InvalidMembershipTag => (Kind::Authentication, "invalid-membership-tag"),
            E::InvalidConfirmationTag => (Kind::Authentication, "invalid-confirmation-tag"),
            E::CryptoProviderError(_) => (Kind::Authentication, "decryption-failed"),
            E::CantProcessMessageFromSelf => (Kind::OwnMessage, "own-message"),
            E::WelcomeKeyPackageNotFound => (Kind::UnknownKeyPackage, "unknown-key-package"),
            E::MemberNotFound => (Kind::NoSuchMember, "sender-left"),
            E::InvalidLifetime { .. } => (Kind::InvalidCommit, "key-package-lifetime"),
            E::CipherSuiteMismatch | E::UnsupportedCipherSuite(_) => {
                (Kind::InvalidCommit, "wrong-suite")
            }
            E::DuplicateLeafData(_) => (Kind::InvalidCommit, "duplicate-leaf"),
            E::GroupStorageError(_) | E::KeyPackageRepoError(_) | E::PskStoreError(_) => {
                (Kind::Other, "storage")
            }
            other => {
                let code = kebab(&format!("{other:?}"));
                return Self::new(Kind::InvalidCommit, code, error.to_string());
            }
        };
        Self::new(kind, code, error.to_string())
    }
}

/// `TreeHashMismatch` and `LeafNotFound(3)` to `tree-hash-mismatch` and `leaf-not-found`.
fn kebab(debug: &str) -> String {
    let mut out = String::new();
    for c in debug.chars().take_while(char::is_ascii_alphanumeric) {
        if c.is_ascii_uppercase() && !out.is_empty() {
            out.push('-');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

/// Runs code that reads a peer's bytes; a panic becomes an error of this package.
pub fn contained<R>(run: impl FnOnce() -> Result<R, Fault>) -> Result<R, Fault> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).unwrap_or_else(|_| {
        Err(Fault::decode(
            "internal-panic",
            "a bug, reached by this input",
        ))
    })
}
