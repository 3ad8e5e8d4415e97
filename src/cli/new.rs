//! `new`: a small project that runs as it is. Invariant: nothing that exists is overwritten, and nothing
//! is asked.

use std::path::PathBuf;

use clap::Args;

use super::Context;
use super::failure::{Exit, Failure, Outcome};
use super::prompts::create;

#[derive(Clone, Debug, Args)]
pub struct NewArgs {
    /// The folder to make, or . for this one
    #[arg(value_name = "NAME")]
    pub name: PathBuf,
}

/// Path and content of each file of a new project: the shipped example, as it is tested.
pub const FILES: [(&str, &str); 6] = [
    ("crews/quickstart.toml", include_str!("../../crews/quickstart.toml")),
    ("prompts/researcher.md", include_str!("../../prompts/researcher.md")),
    ("prompts/writer.md", include_str!("../../prompts/writer.md")),
    ("prompts/critic.md", include_str!("../../prompts/critic.md")),
    ("prompts/partials/style.md", include_str!("../../prompts/partials/style.md")),
    (".gitignore", ".bosun/\nout/\n"),
];

/// A path as a shell takes it whole.
fn word(path: &std::path::Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_alphanumeric() || "_-./".contains(c);
    if text.chars().all(plain) && !text.starts_with('-') {
        return text;
    }
    let dashes = if text.starts_with('-') { "-- " } else { "" };
    format!("{dashes}'{}'", text.replace('\'', "'\\''"))
}

pub fn new(context: &Context, args: NewArgs) -> Outcome {
    let folder = context.cwd.join(&args.name);
    let shown = args.name.display();
    if folder.exists() && !folder.is_dir() {
        return Err(Failure::usage(format!("{shown} is a file: expected a folder, or a name that is free")));
    }
    let (mut made, mut kept) = (Vec::new(), Vec::new());
    for (path, text) in FILES {
        match create(&folder.join(path), text) {
            Ok(()) => made.push(path),
            Err(why) if why.kind() == std::io::ErrorKind::AlreadyExists => kept.push(path),
            Err(why) => return Err(Failure::usage(format!("{shown}/{path} cannot be written: {why}"))),
        }
    }
    if !made.is_empty() {
        context.out.line(&format!("created {}", made.join("  ")));
    }
    if !kept.is_empty() {
        context.out.line(&format!("left as it is: {}", kept.join("  ")));
    }
    let cd =
        if args.name == std::path::Path::new(".") { String::new() } else { format!("cd {} && ", word(&args.name)) };
    context.out.line("next:");
    context.out.line(&format!("  {cd}bosun check"));
    context.out.line("  bosun plan crews/quickstart.toml --input source=crews/quickstart.toml");
    context.out.line("  bosun run crews/quickstart.toml --input source=crews/quickstart.toml");
    Ok(Exit::Done)
}
