//! The client: registration and login, each an object between its two messages.

use std::convert::Infallible;

use opaque_ke::{
    ClientLoginFinishParameters, ClientRegistrationFinishParameters, CredentialResponse,
    RegistrationResponse,
};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use zeroize::Zeroizing;

use crate::arguments::{Setting, password};
use crate::errors::{Fault, contained};
use crate::ksf::Ksf;
use crate::once::Once;
use crate::random::Random;
use crate::suite::{self, Suite};

type Secret = Zeroizing<Vec<u8>>;

/// Wiped at its end; Python gets a copy.
struct Key(Secret);

impl<'py> IntoPyObject<'py> for &Key {
    type Target = PyBytes;
    type Output = Bound<'py, PyBytes>;
    type Error = Infallible;

    fn into_pyobject(self, py: Python<'py>) -> Result<Self::Output, Self::Error> {
        Ok(PyBytes::new(py, &self.0))
    }
}

/// Between the two messages: opaque-ke's state, and the password, which it wants again.
struct Pending<S> {
    state: S,
    password: Secret,
}

/// A registration, at the client, between its two messages. One try; cannot be stored.
#[pyclass(frozen, module = "opaque_ke")]
pub struct ClientRegistration {
    pending: Once<Pending<opaque_ke::ClientRegistration<Suite>>>,
    /// For the server, 32 bytes.
    #[pyo3(get)]
    pub request: Vec<u8>,
}

impl ClientRegistration {
    pub fn start(password: Secret) -> Result<Self, Fault> {
        let started = opaque_ke::ClientRegistration::<Suite>::start(&mut Random, &password)?;
        Ok(Self {
            pending: Once::new(Pending {
                state: started.state,
                password,
            }),
            request: started.message.serialize().to_vec(),
        })
    }

    pub fn end(
        &self,
        response: &[u8],
        ksf: Ksf,
        setting: Setting<'_>,
    ) -> Result<Registration, Fault> {
        let pending = self.pending.take()?;
        let message =
            suite::REGISTRATION_RESPONSE.read(response, RegistrationResponse::deserialize)?;
        let parameters = ClientRegistrationFinishParameters::new(setting.identifiers, Some(&ksf));
        let state = pending.state.clone();
        let done = state.finish(&mut Random, &pending.password, message, parameters)?;
        Ok(Registration {
            upload: done.message.serialize().to_vec(),
            export_key: Key(suite::secret(done.export_key)),
            server_public_key: done.server_s_pk.serialize().to_vec(),
        })
    }
}

#[pymethods]
impl ClientRegistration {
    #[new]
    #[pyo3(text_signature = "(password)")]
    fn new(password: &[u8]) -> PyResult<Self> {
        let password = self::password(password)?;
        Ok(contained(|| Self::start(password))?)
    }

    /// Stretches the password.
    #[pyo3(signature = (response, *, ksf, client_identity=None, server_identity=None))]
    fn finish(
        &self,
        py: Python<'_>,
        response: &[u8],
        ksf: i64,
        client_identity: Option<&[u8]>,
        server_identity: Option<&[u8]>,
    ) -> PyResult<Registration> {
        let ksf = Ksf::of(ksf)?;
        let setting = Setting::new(b"", client_identity, server_identity)?;
        Ok(py.detach(|| contained(|| self.end(response, ksf, setting)))?)
    }
}

/// What a registration gives: the record for the server, and keys.
#[pyclass(frozen, module = "opaque_ke")]
pub struct Registration {
    /// The record, for the server: 192 bytes.
    #[pyo3(get)]
    pub upload: Vec<u8>,
    /// 64 bytes that only who knows the password gets, at each login again.
    #[pyo3(get)]
    export_key: Key,
    /// 32 bytes.
    #[pyo3(get)]
    server_public_key: Vec<u8>,
}

/// One login, at the client, between its two messages. One try; cannot be stored.
#[pyclass(frozen, module = "opaque_ke")]
pub struct ClientLogin {
    pending: Once<Pending<opaque_ke::ClientLogin<Suite>>>,
    /// For the server, 96 bytes.
    #[pyo3(get)]
    pub request: Vec<u8>,
}

impl ClientLogin {
    pub fn start(password: Secret) -> Result<Self, Fault> {
        let started = opaque_ke::ClientLogin::<Suite>::start(&mut Random, &password)?;
        Ok(Self {
            pending: Once::new(Pending {
                state: started.state,
                password,
            }),
            request: started.message.serialize().to_vec(),
        })
    }

    pub fn end(&self, response: &[u8], ksf: Ksf, setting: Setting<'_>) -> Result<Login, Fault> {
        let pending = self.pending.take()?;
        let message = suite::KE2.read(response, CredentialResponse::deserialize)?;
        let parameters = ClientLoginFinishParameters::new(
            Some(setting.context),
            setting.identifiers,
            Some(&ksf),
        );
        let state = pending.state.clone();
        let done = state.finish(&mut Random, &pending.password, message, parameters)?;
        Ok(Login {
            finalization: done.message.serialize().to_vec(),
            session_key: Key(suite::secret(done.session_key)),
            export_key: Key(suite::secret(done.export_key)),
            server_public_key: done.server_s_pk.serialize().to_vec(),
        })
    }
}

#[pymethods]
impl ClientLogin {
    #[new]
    #[pyo3(text_signature = "(password)")]
    fn new(password: &[u8]) -> PyResult<Self> {
        let password = self::password(password)?;
        Ok(contained(|| Self::start(password))?)
    }

    /// Stretches the password.
    #[pyo3(signature = (response, *, ksf, context=b"".as_slice(), client_identity=None, server_identity=None),
        text_signature = "($self, response, *, ksf, context=b'', client_identity=None, server_identity=None)")]
    fn finish(
        &self,
        py: Python<'_>,
        response: &[u8],
        ksf: i64,
        context: &[u8],
        client_identity: Option<&[u8]>,
        server_identity: Option<&[u8]>,
    ) -> PyResult<Login> {
        let ksf = Ksf::of(ksf)?;
        let setting = Setting::new(context, client_identity, server_identity)?;
        Ok(py.detach(|| contained(|| self.end(response, ksf, setting)))?)
    }
}

/// What a login gives: the proof for the server, and keys.
#[pyclass(frozen, module = "opaque_ke")]
pub struct Login {
    /// For the server, 64 bytes. It proves that the client has the session key.
    #[pyo3(get)]
    pub finalization: Vec<u8>,
    /// 64 bytes, the same at the server when it accepts the finalization.
    #[pyo3(get)]
    session_key: Key,
    /// As it was at registration, 64 bytes.
    #[pyo3(get)]
    export_key: Key,
    /// 32 bytes, as they were at registration.
    #[pyo3(get)]
    server_public_key: Vec<u8>,
}
