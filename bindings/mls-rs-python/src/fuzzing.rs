//! Doors for the fuzzers in fuzz/; built only with `--cfg fuzzing`, so never shipped.
//!
//! The first byte of an input picks a genuine sample, and the rest patches it (place, place, xor);
//! from 128 on the rest is the input itself.

use std::sync::{Arc, LazyLock};

use mls_rs::identity::SigningIdentity;
use mls_rs::identity::basic::BasicCredential;
use mls_rs::mls_rs_codec::MlsEncode;
use mls_rs::{CipherSuite, ExtensionList};

use crate::authorize::Authorizer;
use crate::client::UNUSED_LIFETIME_S;
use crate::core::Core;
use crate::errors::{Fault, contained};
use crate::identity::Validator;
use crate::inner::Inner;
use crate::ledger::Ledger;
use crate::pending::PendingCommit;
use crate::policy::Policy;
use crate::rules::Rules;
use crate::seal::Sealer;
use crate::{external, stored, suite, wire};

struct World {
    bob: Inner,
    bob_core: Arc<Core>,
    newcomer: Arc<Core>,
    messages: Vec<Vec<u8>>,
    welcome: Vec<u8>,
    tree: Vec<u8>,
    state: Vec<u8>,
    state_tree: Vec<u8>,
    epoch: (u64, Vec<u8>),
    blobs: Vec<Vec<u8>>,
}

static WORLD: LazyLock<World> = LazyLock::new(|| world().expect("a world"));

fn core(seed: u8) -> Result<Arc<Core>, Fault> {
    let (signer, public) = suite::signing_keys(&[seed; 32])?;
    let identity = SigningIdentity::new(BasicCredential::new(vec![seed]).into_credential(), public);
    let sealer = Sealer::new(&[seed; 32])?;
    let rules = Rules {
        policy: Some(0xF001.into()),
    };
    Ok(Arc::new(Core::new(
        sealer,
        identity,
        signer,
        Validator::anyone(),
        rules,
        Authorizer::new(None),
        &[0xF001],
    )?))
}

fn world() -> Result<World, Fault> {
    let cipher = CipherSuite::new(suite::CLASSIC);
    let client = |core: &Arc<Core>| core.client(cipher, core.store(), UNUSED_LIFETIME_S);
    let none = ExtensionList::new;
    let cores = [core(1)?, core(2)?, core(3)?];
    let mut alice =
        client(&cores[0]).create_group_with_id(b"group".to_vec(), none(), none(), None)?;
    let package = |at: usize| client(&cores[at]).generate_key_package_message(none(), none(), None);
    let output = alice.commit_builder().add_member(package(1)?)?.build()?;
    alice.apply_pending_commit()?;
    let joined = client(&cores[1])
        .join_group(None, &output.welcome_messages[0], None)?
        .0;
    let epoch = joined.context().epoch();
    let mut bob = Inner::new(joined, true, None, Ledger::begin(epoch));
    let late = alice.encrypt_application_message(b"late", Vec::new())?;
    let commit = alice.commit(Vec::new())?.commit_message;
    alice.apply_pending_commit()?;
    bob.process(&cores[1], commit)?;
    let newcomer = package(2)?;
    let (adding, _) = alice
        .commit_builder()
        .add_member(newcomer.clone())?
        .build_detached()?;
    let messages = [
        late,
        alice.encrypt_application_message(b"text", b"data".to_vec())?,
        alice.commit_builder().build_detached()?.0.commit_message,
        adding.commit_message,
        newcomer,
        alice.group_info_message_allowing_ext_commit(true)?,
    ];
    let tree = alice.export_tree().to_bytes()?;
    stored::save(&cores[1], &mut bob, None)?;
    let log = cores[1].take_log()?;
    let row = |kind: &str| {
        let mut found = log.iter().filter(|entry| entry.kind == kind);
        found
            .find_map(|entry| entry.data.clone())
            .unwrap_or_default()
    };
    let rows = [
        row("state"),
        row("tree"),
        row("epoch-insert"),
        row("key-package-insert"),
    ];
    Ok(World {
        bob,
        bob_core: cores[1].clone(),
        newcomer: cores[2].clone(),
        messages: messages
            .iter()
            .map(|m| m.to_bytes())
            .collect::<Result<_, _>>()?,
        welcome: adding.welcome_messages[0].to_bytes()?,
        tree,
        state: rows[0].clone(),
        state_tree: rows[1].clone(),
        epoch: (epoch, rows[2].clone()),
        blobs: rows.to_vec(),
    })
}

fn patched(sample: &[u8], patches: &[u8]) -> Vec<u8> {
    let mut bytes = sample.to_vec();
    for patch in patches.chunks_exact(3) {
        let place = usize::from(u16::from_be_bytes([patch[0], patch[1]]));
        if let Some(byte) = bytes.get_mut(place) {
            *byte ^= patch[2];
        }
    }
    bytes
}

fn input(data: &[u8], samples: &[Vec<u8>]) -> Option<(usize, Vec<u8>)> {
    let (door, rest) = data.split_first()?;
    let at = usize::from(*door & 127) % samples.len();
    Some((
        at,
        if *door < 128 {
            patched(&samples[at], rest)
        } else {
            rest.to_vec()
        },
    ))
}

pub fn process(data: &[u8]) {
    let world = &*WORLD;
    let mut samples = world.messages.clone();
    samples.extend([world.welcome.clone(), world.tree.clone()]);
    let Some((_, bytes)) = input(data, &samples) else {
        return;
    };
    let mut group = world.bob.copy();
    let before = (
        group.group.context().mls_encode_to_vec().ok(),
        group.ledger.encode().ok(),
    );
    let refused = wire::parse(&bytes)
        .and_then(|message| group.process(&world.bob_core, message))
        .is_err();
    if refused {
        let after = (
            group.group.context().mls_encode_to_vec().ok(),
            group.ledger.encode().ok(),
        );
        assert!(before == after, "a refused message changed the group");
    }
    let _ = contained(|| wire::verified(&bytes));
    let _ = contained(|| external::rejoin(&world.bob_core, &bytes, None, 1));
    let _ = contained(|| {
        let client = world.newcomer.client(
            CipherSuite::new(suite::CLASSIC),
            world.newcomer.store(),
            UNUSED_LIFETIME_S,
        );
        client.join_group(None, &wire::parse(&bytes)?, None)?;
        Ok(())
    });
    let _ = contained(|| wire::parse_tree(&bytes).map(drop));
}

pub fn load(data: &[u8]) {
    let world = &*WORLD;
    let core = &world.bob_core;
    let Some((at, bytes)) = input(data, &world.blobs) else {
        return;
    };
    let genuine = world.blobs.contains(&bytes);
    let epochs = [world.epoch.clone()];
    let patched_epochs = [(world.epoch.0, bytes.clone())];
    let done = match at {
        0 => stored::load(core, b"group", &bytes, &world.state_tree, &epochs).map(drop),
        1 => stored::load(core, b"group", &world.state, &bytes, &epochs).map(drop),
        2 => stored::load(
            core,
            b"group",
            &world.state,
            &world.state_tree,
            &patched_epochs,
        )
        .map(drop),
        _ => core.packages.restore(b"reference", &bytes),
    };
    assert!(
        genuine || done.is_err(),
        "a blob that nobody sealed was opened"
    );
    assert!(PendingCommit::open(core, &bytes).is_err());
    if let Some(ledger) = Ledger::decode(&bytes) {
        let again = ledger.encode().expect("what was read can be written");
        assert!(Ledger::decode(&again).is_some());
    }
    let _ = Policy::decode(&bytes);
}
