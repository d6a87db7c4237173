//! A member who keeps no rule but those of RFC 9420: what it makes, others must refuse.
//!
//! One request per line: a verb and its arguments, bytes in hexadecimal. One answer per line:
//! `ok BYTES` or `error TEXT`.

use std::io::{BufRead, Write};

use mls_rs::client_builder::MlsConfig;
use mls_rs::extension::ExtensionType;
use mls_rs::{Client, Extension, ExtensionList, Group, MlsMessage};

use crate::client::client;

type Answer = Result<Vec<u8>, Box<dyn std::error::Error>>;

struct Outlaw<C: MlsConfig> {
    client: Client<C>,
    group: Option<Group<C>>,
}

impl<C: MlsConfig> Outlaw<C> {
    fn ask(&mut self, verb: &str, arguments: &[&str]) -> Answer {
        let bytes = |index: usize| unhex(arguments.get(index).copied().unwrap_or_default());
        let message = |index: usize| {
            Ok::<_, Box<dyn std::error::Error>>(MlsMessage::from_bytes(&bytes(index)?)?)
        };
        let leaf = |index: usize| {
            arguments
                .get(index)
                .ok_or("no leaf")
                .and_then(|text| text.parse::<u32>().map_err(|_| "not a leaf"))
        };
        let none = ExtensionList::new;
        if verb == "key-package" {
            let made = self
                .client
                .generate_key_package_message(none(), none(), None)?;
            return Ok(made.to_bytes()?);
        }
        if verb == "join" {
            self.group = Some(self.client.join_group(None, &message(0)?, None)?.0);
            return Ok(Vec::new());
        }
        if verb == "external" {
            let mut builder = self.client.external_commit_builder()?;
            if arguments.len() > 1 {
                builder = builder.with_removal(leaf(1)?);
            }
            let (group, commit) = builder.build(message(0)?)?;
            self.group = Some(group);
            return Ok(commit.to_bytes()?);
        }
        let group = self.group.as_mut().ok_or("not in a group")?;
        if verb == "process" {
            group.process_incoming_message(message(0)?)?;
            return Ok(Vec::new());
        }
        Ok(match verb {
            "encrypt" => group.encrypt_application_message(&bytes(0)?, Vec::new())?,
            "propose-update" => group.propose_update(Vec::new())?,
            "propose-remove" => group.propose_remove(leaf(0)?, Vec::new())?,
            "commit" => group.commit_builder().build_detached()?.0.commit_message,
            "commit-add" => {
                let builder = group.commit_builder().add_member(message(0)?)?;
                builder.build_detached()?.0.commit_message
            }
            "commit-remove" => {
                let builder = group.commit_builder().remove_member(leaf(0)?)?;
                builder.build_detached()?.0.commit_message
            }
            "commit-extension" => {
                let kind = ExtensionType::new(u16::try_from(leaf(0)?)?);
                let list = ExtensionList::from(vec![Extension::new(kind, bytes(1)?)]);
                let builder = group.commit_builder().set_group_context_ext(list)?;
                builder.build_detached()?.0.commit_message
            }
            "commit-reinit" => {
                let (version, suite) = (group.protocol_version(), group.cipher_suite());
                let builder = group
                    .commit_builder()
                    .reinit(None, version, suite, none())?;
                builder.build_detached()?.0.commit_message
            }
            other => return Err(format!("no verb {other}").into()),
        }
        .to_bytes()?)
    }
}

pub fn run(suite: u16, name: &str) -> Result<(), Box<dyn std::error::Error>> {
    let mut outlaw = Outlaw {
        client: client(name.as_bytes(), suite, true, &[0xF001])?,
        group: None,
    };
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let mut words = line.split_whitespace();
        let verb = words.next().unwrap_or_default();
        let arguments: Vec<&str> = words.collect();
        match outlaw.ask(verb, &arguments) {
            Ok(bytes) => println!("ok {}", hex(&bytes)),
            Err(error) => println!("error {}", error.to_string().replace('\n', " ")),
        }
        std::io::stdout().flush()?;
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    (0..text.len())
        .step_by(2)
        .map(|at| {
            let pair = text.get(at..at + 2).ok_or("odd number of digits")?;
            Ok(u8::from_str_radix(pair, 16)?)
        })
        .collect()
}
