//! The door for the fuzzer in fuzz/; built only with `--cfg fuzzing`, so never shipped.
//!
//! The first byte of an input picks what is read, and the rest patches a genuine one (place, place,
//! xor); from 128 on the rest is the input itself. Randomness is the same in each run.

use std::sync::LazyLock;

use crate::arguments::{Setting, password};
use crate::client::{ClientLogin, ClientRegistration};
use crate::errors::Fault;
use crate::ksf::Ksf;
use crate::random;
use crate::server::{self, ServerLogin, ServerSetup};

const ID: &[u8] = b"id";

struct World {
    setup: ServerSetup,
    record: Vec<u8>,
    /// One genuine thing for each of `read`'s doors.
    samples: [Vec<u8>; 7],
}

static WORLD: LazyLock<World> = LazyLock::new(|| world().expect("a world"));

fn rewind(salt: u32) {
    let bytes = (salt..).map(|at| (at.wrapping_mul(0x9E37_79B1) >> 24) as u8);
    random::play(bytes.take(4096).collect());
}

fn registration() -> Result<ClientRegistration, Fault> {
    ClientRegistration::start(password(b"password")?)
}

fn login(world: &World) -> Result<(ClientLogin, ServerLogin), Fault> {
    let client = ClientLogin::start(password(b"password")?)?;
    let server = world
        .setup
        .start(Some(&world.record), &client.request, ID, Setting::default())?;
    Ok((client, server))
}

fn world() -> Result<World, Fault> {
    rewind(0);
    let setup = ServerSetup::random();
    let client = registration()?;
    let response = setup.register(&client.request, ID)?;
    let registered = client.end(&response, Ksf::Identity, Setting::default())?;
    let mut world = World {
        setup,
        record: registered.upload.clone(),
        samples: Default::default(),
    };
    rewind(1);
    let (at_client, at_server) = login(&world)?;
    let done = at_client.end(&at_server.response, Ksf::Identity, Setting::default())?;
    world.samples = [
        client.request,
        response,
        registered.upload,
        at_client.request,
        at_server.response,
        done.finalization,
        world.setup.written().to_vec(),
    ];
    Ok(world)
}

/// Whether what was read ended in a whole login.
fn read(door: usize, data: &[u8]) -> Result<bool, Fault> {
    let world = &*WORLD;
    rewind(1);
    match door {
        0 => world.setup.register(data, ID).map(|_| false),
        1 => registration()?
            .end(data, Ksf::Identity, Setting::default())
            .map(|_| false),
        2 => {
            server::record(data)?;
            let client = ClientLogin::start(password(b"password")?)?;
            let server = world
                .setup
                .start(Some(data), &client.request, ID, Setting::default())?;
            client.end(&server.response, Ksf::Identity, Setting::default())?;
            Ok(true)
        }
        3 => {
            ClientLogin::start(password(b"password")?)?; // draws what the sample's drew
            let server = world
                .setup
                .start(Some(&world.record), data, ID, Setting::default())?;
            server.end(&world.samples[5]).map(|_| true)
        }
        4 => {
            let (client, _) = login(world)?;
            client
                .end(data, Ksf::Identity, Setting::default())
                .map(|_| true)
        }
        5 => login(world)?.1.end(data).map(|_| true),
        _ => {
            let setup = ServerSetup::read(data)?;
            assert!(
                *setup.written() == data,
                "what was read is written otherwise"
            );
            setup.start(None, &world.samples[3], ID, Setting::default())?;
            Ok(false)
        }
    }
}

pub fn messages(data: &[u8]) {
    let Some((choice, rest)) = data.split_first() else {
        return;
    };
    let samples = &WORLD.samples;
    let door = usize::from(*choice & 127) % samples.len();
    let mut bytes = rest.to_vec();
    if *choice < 128 {
        bytes = samples[door].clone();
        for patch in rest.chunks_exact(3) {
            let place = usize::from(u16::from_be_bytes([patch[0], patch[1]]));
            if let Some(byte) = bytes.get_mut(place) {
                *byte ^= patch[2];
            }
        }
    }
    let genuine = bytes == samples[door];
    match read(door, &bytes) {
        Ok(whole) => assert!(genuine || !whole, "a login with a message that nobody sent"),
        Err(fault) => assert!(!genuine && fault.is_of_peers(), "{fault:?}"),
    }
}
