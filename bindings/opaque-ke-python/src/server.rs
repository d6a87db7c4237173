//! The server: its set-up, its answers, and the record it stores.

use opaque_ke::{
    CredentialFinalization, CredentialRequest, RegistrationRequest, RegistrationUpload,
    ServerLoginParameters, ServerRegistration,
};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyType};
use zeroize::Zeroizing;

use crate::arguments::Setting;
use crate::errors::{Fault, contained};
use crate::once::Once;
use crate::random::Random;
use crate::suite::{self, Suite};

const VERSION: u8 = 1;

/// What a server keeps for ever: OPRF seed and key pair. Without it no record can be used.
#[pyclass(frozen, module = "opaque_ke")]
pub struct ServerSetup {
    inner: opaque_ke::ServerSetup<Suite>,
    /// 32 bytes; what `server_public_key` shows to clients.
    #[pyo3(get)]
    public_key: [u8; suite::ELEMENT],
    /// Read where there is no record, so that an unknown user takes the same time.
    stand_in: Vec<u8>,
}

impl ServerSetup {
    fn new(inner: opaque_ke::ServerSetup<Suite>) -> Self {
        let public_key: [u8; suite::ELEMENT] = inner.keypair().public().serialize().into();
        let mut stand_in = public_key.to_vec();
        stand_in.resize(suite::RECORD, 0);
        Self {
            inner,
            public_key,
            stand_in,
        }
    }

    pub fn random() -> Self {
        Self::new(opaque_ke::ServerSetup::new(&mut Random))
    }

    pub fn read(data: &[u8]) -> Result<Self, Fault> {
        match data.split_first() {
            Some((&VERSION, _)) => suite::SETUP
                .read(data, |data| opaque_ke::ServerSetup::deserialize(&data[1..]))
                .map(Self::new),
            Some((version, _)) => Err(Fault::decode(
                "unsupported-version",
                format!("set-up of version {version}, this package reads {VERSION}"),
            )),
            None => Err(Fault::decode("malformed-setup", "no bytes")),
        }
    }

    pub fn written(&self) -> Zeroizing<Vec<u8>> {
        let secret = suite::secret(self.inner.serialize());
        Zeroizing::new([&[VERSION], secret.as_slice()].concat())
    }

    pub fn register(&self, request: &[u8], credential_id: &[u8]) -> Result<Vec<u8>, Fault> {
        let request =
            suite::REGISTRATION_REQUEST.read(request, RegistrationRequest::deserialize)?;
        let answer = ServerRegistration::<Suite>::start(&self.inner, request, credential_id)?;
        Ok(answer.message.serialize().to_vec())
    }

    pub fn start(
        &self,
        record: Option<&[u8]>,
        request: &[u8],
        credential_id: &[u8],
        setting: Setting<'_>,
    ) -> Result<ServerLogin, Fault> {
        let request = suite::KE1.read(request, CredentialRequest::deserialize)?;
        let known = record.is_some();
        let record = suite::STORED_RECORD.read(
            record.unwrap_or(&self.stand_in),
            ServerRegistration::deserialize,
        )?;
        let started = opaque_ke::ServerLogin::start(
            &mut Random,
            &self.inner,
            known.then_some(record),
            request,
            credential_id,
            ServerLoginParameters {
                context: Some(setting.context),
                identifiers: setting.identifiers,
            },
        )?;
        Ok(ServerLogin {
            state: Once::new(started.state),
            response: started.message.serialize().to_vec(),
        })
    }
}

#[pymethods]
impl ServerSetup {
    #[classmethod]
    fn generate(_cls: &Bound<'_, PyType>) -> PyResult<Self> {
        Ok(contained(|| Ok(Self::random()))?)
    }

    /// What `to_bytes` gave.
    #[classmethod]
    fn from_bytes(_cls: &Bound<'_, PyType>, data: &[u8]) -> PyResult<Self> {
        Ok(contained(|| Self::read(data))?)
    }

    /// Secret, 129 bytes: version 1, OPRF seed 64, private key 32, stand-in public key 32.
    fn to_bytes<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.written())
    }

    /// Answers `ClientRegistration.request`, 64 bytes.
    fn registration_response<'py>(
        &self,
        py: Python<'py>,
        request: &[u8],
        credential_id: &[u8],
    ) -> PyResult<Bound<'py, PyBytes>> {
        let answer = py.detach(|| contained(|| self.register(request, credential_id)))?;
        Ok(PyBytes::new(py, &answer))
    }

    /// Answers `ClientLogin.request`; record None stands for an unknown user.
    #[pyo3(signature = (record, request, credential_id, *, context=b"".as_slice(),
        client_identity=None, server_identity=None),
        text_signature = "($self, record, request, credential_id, *, context=b'', client_identity=None, server_identity=None)")]
    #[allow(clippy::too_many_arguments)] // the protocol's
    fn login_start(
        &self,
        py: Python<'_>,
        record: Option<&[u8]>,
        request: &[u8],
        credential_id: &[u8],
        context: &[u8],
        client_identity: Option<&[u8]>,
        server_identity: Option<&[u8]>,
    ) -> PyResult<ServerLogin> {
        let setting = Setting::new(context, client_identity, server_identity)?;
        Ok(py.detach(|| contained(|| self.start(record, request, credential_id, setting)))?)
    }
}

/// One login, at the server, between its two messages. One try; cannot be copied or stored.
#[pyclass(frozen, module = "opaque_ke")]
pub struct ServerLogin {
    state: Once<opaque_ke::ServerLogin<Suite>>,
    /// For the client, 320 bytes.
    #[pyo3(get)]
    pub response: Vec<u8>,
}

impl ServerLogin {
    pub fn end(&self, finalization: &[u8]) -> Result<Zeroizing<Vec<u8>>, Fault> {
        let state = self.state.take()?;
        let message = suite::KE3.read(finalization, CredentialFinalization::deserialize)?;
        // 3DH has context and identities in the state already.
        let done = state
            .as_ref()
            .clone()
            .finish(message, ServerLoginParameters::default())?;
        Ok(suite::secret(done.session_key))
    }
}

#[pymethods]
impl ServerLogin {
    /// The session key, 64 bytes.
    fn finish<'py>(&self, py: Python<'py>, finalization: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
        let key = contained(|| self.end(finalization))?;
        Ok(PyBytes::new(py, &key))
    }
}

/// A client's `Registration.upload`, verified to be a record; the same 192 bytes, to be stored.
#[pyfunction]
pub fn check_record<'py>(py: Python<'py>, upload: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    contained(|| record(upload))?;
    Ok(PyBytes::new(py, upload))
}

pub fn record(upload: &[u8]) -> Result<(), Fault> {
    suite::UPLOAD.read(upload, RegistrationUpload::<Suite>::deserialize)?;
    Ok(())
}
