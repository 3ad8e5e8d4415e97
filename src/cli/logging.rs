//! The log of whoever debugs Bosun. Invariant: off unless asked for, never on stdout, and it carries
//! ids, addresses and figures, never the text of a prompt or a key; what a library logs is redacted.

use std::io::IsTerminal;
use std::path::Path;

use tracing_appender::non_blocking::WorkerGuard;
use tracing_appender::rolling::{RollingFileAppender, Rotation};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

use super::failure::Failure;
use crate::adapters::redaction::{Hiding, Redactor};
use crate::adapters::settings::{LogFormat, Settings};

/// Keeps a log file's writer alive; what is queued is written when it is dropped.
#[derive(Debug, Default)]
pub struct Log {
    _writer: Option<WorkerGuard>,
}

/// Starts the log if a flag, variable or file asks for one. `verbose` is the count of `-v`.
/// Of two starts in one process the first counts.
pub fn start(settings: &Settings, verbose: u8, secrets: &Redactor) -> Result<Log, Failure> {
    let stated = settings.log.clone();
    let filter = match (stated, verbose) {
        (None, 0) if settings.log_file.is_none() => return Ok(Log::default()),
        (Some(filter), 0) => filter,
        (None, 0 | 1) => "boatswain=info".to_owned(),
        (_, 1) => "boatswain=info".to_owned(),
        (_, 2) => "boatswain=debug".to_owned(),
        (_, _) => "boatswain=trace,warn".to_owned(),
    };
    let origin = settings.origins.get("log").map_or("log", String::as_str);
    let filter = EnvFilter::try_new(&filter).map_err(|why| {
        Failure::usage(format!("{origin}: `{filter}` is not a log filter: {why}"))
            .hint("expected a level (info) or TARGET=LEVEL, such as boatswain=debug")
    })?;
    let secrets = secrets.clone();
    let (writer, ansi, guard) = match &settings.log_file {
        Some(path) => {
            let (writer, guard) = tracing_appender::non_blocking(file(path)?);
            let hiding = move || Hiding(writer.clone(), secrets.clone());
            (BoxMakeWriter::new(hiding), false, Some(guard))
        }
        None => {
            let hiding = move || Hiding(std::io::stderr(), secrets.clone());
            (BoxMakeWriter::new(hiding), std::io::stderr().is_terminal(), None)
        }
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(ansi).with_writer(writer);
    // A second start finds a log in place; that one goes on.
    let _ = match settings.log_format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    Ok(Log { _writer: guard })
}

/// A new file each day: `NAME.2026-11-20`.
fn file(path: &Path) -> Result<RollingFileAppender, Failure> {
    let shown = path.display();
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| Failure::usage(format!("--log-file {shown}: expected the path of a file")))?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    RollingFileAppender::builder().rotation(Rotation::DAILY).filename_prefix(name).build(folder).map_err(|why| {
        Failure::usage(format!("--log-file {shown}: {why}")).hint("the folder must exist and be writable")
    })
}
