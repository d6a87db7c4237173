//! Members of MLS groups on OpenMLS, driven by a test: one JSON request a line on standard input,
//! one JSON answer a line on standard output.
//!
//! A request is `{"member": name, "ask": {operation: {arguments}}}`, an answer `{"ok": value}` or
//! `{"error": text}`. Bytes travel as hex. Everything lives in memory; a member has one group.

mod hex;

use std::collections::HashMap;
use std::error::Error;
use std::io::{BufRead, Write, stdin, stdout};

use hex::Hex;
use openmls::prelude::tls_codec::{Deserialize as _, Serialize as _};
use openmls::prelude::*;
use openmls_basic_credential::SignatureKeyPair;
use openmls_rust_crypto::OpenMlsRustCrypto;
use serde::Deserialize;
use serde_json::{Value, json};

const SUITE: Ciphersuite = Ciphersuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519;
/// As many as the binding of mls-rs keeps.
const PAST_EPOCHS: usize = 16;
const OUT_OF_ORDER_TOLERANCE: u32 = 64;
const FORWARD_DISTANCE: u32 = 1_000;

type Answer = Result<Value, Box<dyn Error>>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    member: String,
    ask: Request,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Request {
    /// A new member; every other operation needs one.
    Appear {
        signing_seed: Hex,
        signature_key: Hex,
        credential: Hex,
        extension_types: Vec<u16>,
    },
    KeyPackage {
        lifetime_s: u64,
        last_resort: bool,
    },
    Create {
        group_id: Hex,
        extensions: Vec<(u16, Hex)>,
    },
    Join {
        welcome: Hex,
        tree: Option<Hex>,
    },
    /// By value. The commit stays pending until `merge`, or until another one is processed.
    Commit {
        add: Vec<Hex>,
        remove: Vec<u32>,
        extensions: Option<Vec<(u16, Hex)>>,
        authenticated_data: Hex,
        path: bool,
        tree_in_welcome: bool,
    },
    Merge {},
    ProposeToLeave {},
    Encrypt {
        plaintext: Hex,
        authenticated_data: Hex,
    },
    Process {
        message: Hex,
    },
    Export {
        label: String,
        context: Hex,
        length: usize,
    },
    State {},
    RatchetTree {},
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut members = HashMap::new();
    let mut output = stdout().lock();
    for line in stdin().lock().lines() {
        let answer = match handle(&mut members, &line?) {
            Ok(value) => json!({ "ok": value }),
            Err(error) => json!({ "error": format!("{error:?}") }),
        };
        writeln!(output, "{answer}")?;
        output.flush()?;
    }
    Ok(())
}

fn handle(members: &mut HashMap<String, Member>, line: &str) -> Answer {
    let Line { member, ask } = serde_json::from_str(line)?;
    if let Request::Appear {
        signing_seed,
        signature_key,
        credential,
        extension_types,
    } = ask
    {
        let appeared = Member::new(signing_seed, signature_key, credential, &extension_types);
        members.insert(member, appeared);
        return Ok(Value::Null);
    }
    members
        .get_mut(&member)
        .ok_or("no such member")?
        .answer(ask)
}

struct Member {
    provider: OpenMlsRustCrypto,
    signer: SignatureKeyPair,
    credential: CredentialWithKey,
    capabilities: Capabilities,
    group: Option<MlsGroup>,
}

impl Member {
    fn new(seed: Hex, signature_key: Hex, credential: Hex, extension_types: &[u16]) -> Self {
        let extension_types: Vec<_> = extension_types
            .iter()
            .copied()
            .map(ExtensionType::from)
            .collect();
        Self {
            provider: OpenMlsRustCrypto::default(),
            credential: CredentialWithKey {
                credential: BasicCredential::new(credential.0).into(),
                signature_key: signature_key.0.clone().into(),
            },
            signer: SignatureKeyPair::from_raw(SignatureScheme::ED25519, seed.0, signature_key.0),
            capabilities: Capabilities::builder().extensions(extension_types).build(),
            group: None,
        }
    }

    fn answer(&mut self, request: Request) -> Answer {
        match request {
            Request::Appear { .. } => Err("handled before".into()),
            Request::KeyPackage {
                lifetime_s,
                last_resort,
            } => self.key_package(lifetime_s, last_resort),
            Request::Create {
                group_id,
                extensions,
            } => self.create(&group_id, extensions),
            Request::Join { welcome, tree } => self.join(&welcome, tree),
            Request::Commit {
                add,
                remove,
                extensions,
                authenticated_data,
                path,
                tree_in_welcome,
            } => {
                let key_packages = add
                    .iter()
                    .map(|message| self.verified_key_package(message))
                    .collect::<Result<Vec<_>, _>>()?;
                let group = self.group.as_mut().ok_or("no group")?;
                group.set_aad(authenticated_data.0);
                let mut builder = group
                    .commit_builder()
                    .force_self_update(path)
                    .propose_adds(key_packages)
                    .propose_removals(remove.into_iter().map(LeafNodeIndex::new));
                if let Some(extensions) = extensions {
                    builder = builder.propose_group_context_extensions(context(extensions)?)?;
                }
                let (commit, welcome, _) = builder
                    .load_psks(self.provider.storage())?
                    .use_ratchet_tree_extension(tree_in_welcome)
                    .build(
                        self.provider.rand(),
                        self.provider.crypto(),
                        &self.signer,
                        |_| true,
                    )?
                    .stage_commit(&self.provider)?
                    .into_messages();
                let welcome = welcome.map(|welcome| encoded(&welcome)).transpose()?;
                Ok(json!({ "commit": encoded(&commit)?, "welcome": welcome }))
            }
            Request::Merge {} => {
                let group = self.group.as_mut().ok_or("no group")?;
                group.merge_pending_commit(&self.provider)?;
                Ok(Value::Null)
            }
            Request::ProposeToLeave {} => {
                let group = self.group.as_mut().ok_or("no group")?;
                let proposal = group.leave_group(&self.provider, &self.signer)?;
                Ok(json!(encoded(&proposal)?))
            }
            Request::Encrypt {
                plaintext,
                authenticated_data,
            } => {
                let group = self.group.as_mut().ok_or("no group")?;
                group.set_aad(authenticated_data.0);
                let message = group.create_message(&self.provider, &self.signer, &plaintext.0)?;
                Ok(json!(encoded(&message)?))
            }
            Request::Process { message } => self.process(&message),
            Request::Export {
                label,
                context,
                length,
            } => {
                let group = self.group.as_ref().ok_or("no group")?;
                let crypto = self.provider.crypto();
                Ok(json!(Hex(
                    group.export_secret(crypto, &label, &context.0, length)?
                )))
            }
            Request::State {} => self.state(),
            Request::RatchetTree {} => {
                let group = self.group.as_ref().ok_or("no group")?;
                Ok(json!(encoded(&group.export_ratchet_tree())?))
            }
        }
    }

    fn key_package(&self, lifetime_s: u64, last_resort: bool) -> Answer {
        let mut builder = KeyPackage::builder()
            .leaf_node_capabilities(self.capabilities.clone())
            .key_package_lifetime(Lifetime::new(lifetime_s));
        if last_resort {
            builder = builder.mark_as_last_resort();
        }
        let bundle = builder.build(SUITE, &self.provider, &self.signer, self.credential.clone())?;
        let message = MlsMessageOut::from(bundle.key_package().clone());
        Ok(json!(encoded(&message)?))
    }

    fn verified_key_package(&self, message: &Hex) -> Result<KeyPackage, Box<dyn Error>> {
        let MlsMessageBodyIn::KeyPackage(package) = decoded(message)?.extract() else {
            return Err("not a KeyPackage".into());
        };
        Ok(package.validate(self.provider.crypto(), ProtocolVersion::Mls10)?)
    }

    fn create(&mut self, group_id: &Hex, extensions: Vec<(u16, Hex)>) -> Answer {
        let config = MlsGroupCreateConfig::builder()
            .ciphersuite(SUITE)
            .capabilities(self.capabilities.clone())
            .with_group_context_extensions(context(extensions)?)
            .wire_format_policy(PURE_PLAINTEXT_WIRE_FORMAT_POLICY)
            .max_past_epochs(PAST_EPOCHS)
            .sender_ratchet_configuration(ratchets())
            .use_ratchet_tree_extension(true)
            .build();
        self.group = Some(MlsGroup::new_with_group_id(
            &self.provider,
            &self.signer,
            &config,
            GroupId::from_slice(&group_id.0),
            self.credential.clone(),
        )?);
        Ok(Value::Null)
    }

    fn join(&mut self, welcome: &Hex, tree: Option<Hex>) -> Answer {
        let MlsMessageBodyIn::Welcome(welcome) = decoded(welcome)?.extract() else {
            return Err("not a Welcome".into());
        };
        let config = MlsGroupJoinConfig::builder()
            .wire_format_policy(PURE_PLAINTEXT_WIRE_FORMAT_POLICY)
            .max_past_epochs(PAST_EPOCHS)
            .sender_ratchet_configuration(ratchets())
            .use_ratchet_tree_extension(true)
            .build();
        let mut builder = StagedWelcome::build_from_welcome(&self.provider, &config, welcome)?
            .replace_old_group();
        if let Some(tree) = tree {
            let tree = RatchetTreeIn::tls_deserialize_exact(&tree.0)?;
            builder = builder.with_ratchet_tree(tree);
        }
        self.group = Some(builder.build()?.into_group(&self.provider)?);
        Ok(Value::Null)
    }

    fn process(&mut self, message: &Hex) -> Answer {
        let message = decoded(message)?.try_into_protocol_message()?;
        let group = self.group.as_mut().ok_or("no group")?;
        let processed = group.process_message(&self.provider, message)?;
        let Sender::Member(sender) = *processed.sender() else {
            return Err("the sender is no member".into());
        };
        let authenticated_data = Hex(processed.aad().to_vec());
        let epoch = processed.epoch().as_u64();
        let what = match processed.into_content() {
            ProcessedMessageContent::ApplicationMessage(application) => {
                json!({ "message": Hex(application.into_bytes()) })
            }
            ProcessedMessageContent::StagedCommitMessage(staged) => {
                let removed: Vec<_> = staged
                    .remove_proposals()
                    .map(|queued| queued.remove_proposal().removed().u32())
                    .collect();
                let removes_me = staged.self_removed();
                group.merge_staged_commit(&self.provider, *staged)?;
                json!({ "commit": { "removed": removed, "removes_me": removes_me } })
            }
            ProcessedMessageContent::ProposalMessage(_)
            | ProcessedMessageContent::ExternalJoinProposalMessage(_) => {
                return Err("a proposal by reference".into());
            }
        };
        Ok(json!({
            "sender": sender.u32(),
            "epoch": epoch,
            "authenticated_data": authenticated_data,
            "what": what,
        }))
    }

    fn state(&self) -> Answer {
        let group = self.group.as_ref().ok_or("no group")?;
        let roster = group
            .members()
            .map(|member| {
                let credential = BasicCredential::try_from(member.credential)?;
                Ok(json!({
                    "index": member.index.u32(),
                    "signature_key": Hex(member.signature_key),
                    "credential": Hex(credential.identity().to_vec()),
                }))
            })
            .collect::<Result<Vec<_>, Box<dyn Error>>>()?;
        let extensions: Vec<_> = group
            .extensions()
            .iter()
            .filter_map(|extension| match extension {
                Extension::Unknown(kind, data) => Some((kind, Hex(data.0.clone()))),
                _ => None,
            })
            .collect();
        Ok(json!({
            "active": group.is_active(),
            "epoch": group.epoch().as_u64(),
            "epoch_authenticator": Hex(group.epoch_authenticator().as_slice().to_vec()),
            "own_index": group.own_leaf_index().u32(),
            "roster": roster,
            "extensions": extensions,
        }))
    }
}

fn ratchets() -> SenderRatchetConfiguration {
    SenderRatchetConfiguration::new(OUT_OF_ORDER_TOLERANCE, FORWARD_DISTANCE)
}

fn context(extensions: Vec<(u16, Hex)>) -> Result<Extensions<GroupContext>, Box<dyn Error>> {
    let extensions = extensions
        .into_iter()
        .map(|(kind, data)| {
            let mut wire = kind.to_be_bytes().to_vec();
            VLBytes::new(data.0).tls_serialize(&mut wire)?;
            Extension::tls_deserialize_exact(&wire)
        })
        .collect::<Result<_, _>>()?;
    Ok(Extensions::from_vec(extensions)?)
}

fn decoded(message: &Hex) -> Result<MlsMessageIn, Box<dyn Error>> {
    Ok(MlsMessageIn::tls_deserialize_exact(&message.0)?)
}

fn encoded(value: &impl tls_codec::Serialize) -> Result<Hex, tls_codec::Error> {
    value.tls_serialize_detached().map(Hex)
}
