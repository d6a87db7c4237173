//! What callers pass: held against the lengths that the protocol can carry.

use opaque_ke::Identifiers;
use zeroize::Zeroizing;

use crate::errors::Fault;

/// RFC 9807 puts the length of each into two bytes.
const LONGEST: usize = 0xFFFF;

fn short(name: &str, data: &[u8]) -> Result<(), Fault> {
    if data.len() > LONGEST {
        let text = format!("{name} must have at most {LONGEST} bytes");
        return Err(Fault::argument(text));
    }
    Ok(())
}

pub fn password(data: &[u8]) -> Result<Zeroizing<Vec<u8>>, Fault> {
    short("password", data)?;
    if data.is_empty() {
        return Err(Fault::argument("password must not be empty"));
    }
    Ok(Zeroizing::new(data.to_vec()))
}

/// What both sides must agree on besides the password.
#[derive(Clone, Copy, Default)]
pub struct Setting<'a> {
    pub context: &'a [u8],
    pub identifiers: Identifiers<'a>,
}

impl<'a> Setting<'a> {
    pub fn new(
        context: &'a [u8],
        client: Option<&'a [u8]>,
        server: Option<&'a [u8]>,
    ) -> Result<Self, Fault> {
        short("context", context)?;
        short("client_identity", client.unwrap_or_default())?;
        short("server_identity", server.unwrap_or_default())?;
        Ok(Self {
            context,
            identifiers: Identifiers { client, server },
        })
    }
}
