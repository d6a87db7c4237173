//! Times of mls-rs by itself, asked for one operation at a time, so that a benchmark can alternate
//! with its own.
//!
//! Each request line is `OPERATION ROUNDS`; the answer line holds the microseconds of each round.

use std::io::{BufRead, Write};
use std::time::Instant;

use mls_rs::client_builder::MlsConfig;
use mls_rs::group::ExportedTree;
use mls_rs::{Client, ExtensionList, Group, MlsMessage};

use crate::client::client;

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

struct World<C: MlsConfig> {
    alice: Group<C>,
    bob_client: Client<C>,
    bob: Group<C>,
    spare: Client<C>,
    suite: u16,
}

pub fn run(suite: u16, size: usize) -> Fallible<()> {
    let make = |name: &[u8]| client(name, suite, true, &[]);
    let none = ExtensionList::new;
    let first = make(b"first")?;
    let mut alice = first.create_group_with_id(b"group".to_vec(), none(), none(), None)?;
    let bob_client = make(b"bob")?;
    let mut builder = alice.commit_builder();
    builder =
        builder.add_member(bob_client.generate_key_package_message(none(), none(), None)?)?;
    for number in 2..size {
        let package = make(format!("member {number}").as_bytes())?.generate_key_package_message(
            none(),
            none(),
            None,
        )?;
        builder = builder.add_member(package)?;
    }
    let output = builder.build()?;
    alice.apply_pending_commit()?;
    let bob = bob_client
        .join_group(None, &output.welcome_messages[0], None)?
        .0;
    let spare = make(b"spare")?;
    let mut world = World {
        alice,
        bob_client,
        bob,
        spare,
        suite,
    };
    world.warm()?;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let (operation, rounds) = line.split_once(' ').ok_or("OPERATION ROUNDS")?;
        let times = world.time(operation, rounds.trim().parse()?)?;
        let words: Vec<String> = times.iter().map(|time| format!("{time:.3}")).collect();
        println!("{}", words.join(" "));
        std::io::stdout().flush()?;
    }
    Ok(())
}

impl<C: MlsConfig + Clone> World<C> {
    /// Both have committed, so that every later path is of a warm tree.
    fn warm(&mut self) -> Fallible<()> {
        for _ in 0..2 {
            let commit = self.alice.commit(Vec::new())?.commit_message;
            self.alice.apply_pending_commit()?;
            self.bob.process_incoming_message(commit)?;
            let commit = self.bob.commit(Vec::new())?.commit_message;
            self.bob.apply_pending_commit()?;
            self.alice.process_incoming_message(commit)?;
        }
        Ok(())
    }

    fn time(&mut self, operation: &str, rounds: usize) -> Fallible<Vec<f64>> {
        (0..rounds).map(|_| self.once(operation)).collect()
    }

    fn once(&mut self, operation: &str) -> Fallible<f64> {
        let none = ExtensionList::new;
        let micros = |start: Instant| start.elapsed().as_secs_f64() * 1e6;
        Ok(match operation {
            "key-package" => {
                let start = Instant::now();
                self.spare
                    .generate_key_package_message(none(), none(), None)?
                    .to_bytes()?;
                micros(start)
            }
            "add-one" => {
                let package = self
                    .spare
                    .generate_key_package_message(none(), none(), None)?
                    .to_bytes()?;
                let start = Instant::now();
                let package = MlsMessage::from_bytes(&package)?;
                let (output, secrets) = self
                    .alice
                    .commit_builder()
                    .add_member(package)?
                    .build_detached()?;
                output.commit_message.to_bytes()?;
                output.welcome_messages[0].to_bytes()?;
                secrets.to_bytes()?;
                micros(start)
            }
            "path-commit" => {
                let start = Instant::now();
                let (output, secrets) = self.alice.commit_builder().build_detached()?;
                output.commit_message.to_bytes()?;
                secrets.to_bytes()?;
                micros(start)
            }
            "process-commit" => {
                let (output, secrets) = self.alice.commit_builder().build_detached()?;
                let bytes = output.commit_message.to_bytes()?;
                let start = Instant::now();
                self.bob
                    .process_incoming_message(MlsMessage::from_bytes(&bytes)?)?;
                let time = micros(start);
                self.alice.apply_detached_commit(secrets)?;
                self.bob.write_to_storage()?;
                self.alice.write_to_storage()?;
                time
            }
            "join" => {
                let joiner = client(b"joiner", self.suite, true, &[])?;
                let package = joiner.generate_key_package_message(none(), none(), None)?;
                let (output, _) = self
                    .alice
                    .commit_builder()
                    .add_member(package)?
                    .build_detached()?;
                let welcome = output.welcome_messages[0].to_bytes()?;
                let start = Instant::now();
                joiner.join_group(None, &MlsMessage::from_bytes(&welcome)?, None)?;
                micros(start)
            }
            "encrypt" => {
                let start = Instant::now();
                let message = self
                    .alice
                    .encrypt_application_message(&[0; 256], Vec::new())?
                    .to_bytes()?;
                let time = micros(start);
                self.bob
                    .process_incoming_message(MlsMessage::from_bytes(&message)?)?;
                time
            }
            "decrypt" => {
                let message = self
                    .alice
                    .encrypt_application_message(&[0; 256], Vec::new())?
                    .to_bytes()?;
                let start = Instant::now();
                self.bob
                    .process_incoming_message(MlsMessage::from_bytes(&message)?)?;
                micros(start)
            }
            "save" => {
                self.bob
                    .encrypt_application_message(&[0; 256], Vec::new())?;
                let start = Instant::now();
                self.bob.write_to_storage_without_ratchet_tree()?;
                micros(start)
            }
            "load" => {
                self.bob.write_to_storage_without_ratchet_tree()?;
                let tree = self.bob.export_tree().to_bytes()?;
                let start = Instant::now();
                let tree = ExportedTree::from_bytes(&tree)?;
                self.bob_client
                    .load_group_with_ratchet_tree(b"group", tree)?;
                micros(start)
            }
            other => return Err(format!("no operation {other}").into()),
        })
    }
}
