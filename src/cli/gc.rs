//! `gc`: removes runs that are over and old, then texts that no run refers to.

use clap::Args;

use super::Context;
use super::failure::{Exit, Failure, Outcome};
use super::open::{Project, now_ms};
use super::screen::count;
use crate::core::money::grouped;

#[derive(Clone, Debug, Args)]
pub struct GcArgs {
    /// Say what would go, and remove nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Keep what was touched in this time: 30d, 12h, 0d for nothing
    #[arg(long, value_name = "TIME", default_value = "30d")]
    pub keep: String,
}

pub fn gc(context: &Context, args: GcArgs) -> Outcome {
    let keep = millis(&args.keep)?;
    let project = Project::here(context)?;
    let Some(store) = project.existing_store()? else {
        context.out.note("nothing has run here: there is nothing to remove");
        return Ok(Exit::Done);
    };
    let garbage = store.gc(now_ms().saturating_sub(keep), args.dry_run)?;
    let verb = if args.dry_run { "would remove" } else { "removed" };
    context.out.line(&format!(
        "{verb} {}, {} and {} bytes",
        count(garbage.runs.len() as u64, "run"),
        count(garbage.blobs, "text"),
        grouped(garbage.bytes)
    ));
    for run in &garbage.runs {
        context.out.line(run.as_str());
    }
    Ok(Exit::Done)
}

/// `30d`, `12h`, `90m`, `10s` in milliseconds.
fn millis(text: &str) -> Result<u64, Failure> {
    let wrong =
        || Failure::usage(format!("--keep: `{text}` is not a time: expected a number and d, h, m or s, such as 30d"));
    let text = text.trim();
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?);
    let unit: u64 = match unit {
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wrong()),
    };
    number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit)).ok_or_else(wrong)
}
