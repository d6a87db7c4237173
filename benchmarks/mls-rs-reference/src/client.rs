//! A client of mls-rs with in-memory storage and no rules beyond RFC 9420.

use mls_rs::client_builder::{MlsConfig, PaddingMode};
use mls_rs::error::MlsError;
use mls_rs::extension::ExtensionType;
use mls_rs::identity::SigningIdentity;
use mls_rs::identity::basic::{BasicCredential, BasicIdentityProvider};
use mls_rs::mls_rules::{CommitOptions, DefaultMlsRules, EncryptionOptions};
use mls_rs::{CipherSuite, CipherSuiteProvider, Client, CryptoProvider};
use mls_rs_crypto_awslc::AwsLcCryptoProvider;

/// As the binding: the commit has a path and is public, messages are padded in steps.
pub fn client(
    name: &[u8],
    suite: u16,
    tree_in_welcome: bool,
    extensions: &[u16],
) -> Result<Client<impl MlsConfig + use<>>, MlsError> {
    let suite = CipherSuite::new(suite);
    let crypto = AwsLcCryptoProvider::with_enabled_cipher_suites(vec![suite]);
    let provider = crypto
        .cipher_suite_provider(suite)
        .expect("a suite of this provider");
    let (secret, public) = provider.signature_key_generate().expect("a key pair");
    let identity = SigningIdentity::new(
        BasicCredential::new(name.to_vec()).into_credential(),
        public,
    );
    let options = CommitOptions::new()
        .with_path_required(true)
        .with_ratchet_tree_extension(tree_in_welcome);
    let rules = DefaultMlsRules::new()
        .with_commit_options(options)
        .with_encryption_options(EncryptionOptions::new(false, PaddingMode::StepFunction));
    Ok(Client::builder()
        .crypto_provider(crypto)
        .identity_provider(BasicIdentityProvider)
        .mls_rules(rules)
        .extension_types(extensions.iter().copied().map(ExtensionType::new))
        .signing_identity(identity, secret, suite)
        .build())
}
