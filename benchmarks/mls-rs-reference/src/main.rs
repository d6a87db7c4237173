//! `mls-rs-reference bench SUITE MEMBERS` or `mls-rs-reference outlaw SUITE [NAME]`; requests on stdin.

mod bench;
mod client;
mod outlaw;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["bench", suite, members] => bench::run(suite.parse()?, members.parse()?),
        ["outlaw", suite] => {
            let name = format!("outlaw {}", std::process::id());
            outlaw::run(suite.parse()?, &name)
        }
        ["outlaw", suite, name] => outlaw::run(suite.parse()?, name),
        _ => Err("mls-rs-reference bench SUITE MEMBERS | outlaw SUITE [NAME]".into()),
    }
}
