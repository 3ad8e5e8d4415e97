//! `gc`: removes runs that are over and old, then texts that no run refers to.

use clap::Args;

use super::Context;
use super::failure::{Exit, Failure, Outcome};
use super::open::{Project, now_ms};
use super::screen::{Side, Table, ago, clean, count};
use crate::core::money::grouped;
use crate::ports::store::RunFilter;

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
        context.out.say("nothing has run here: there is nothing to remove");
        return Ok(Exit::Done);
    };
    let known = store.runs(&RunFilter::default())?;
    let garbage = store.gc(now_ms().saturating_sub(keep), args.dry_run)?;
    let verb = if args.dry_run { "would remove" } else { "removed" };
    context.out.line(&format!(
        "{verb} {}, {} and {} bytes",
        count(garbage.runs.len() as u64, "run"),
        count(garbage.blobs, "text"),
        grouped(garbage.bytes)
    ));
    let mut table = Table::new(&[("RUN", Side::Left, 0), ("CREW", Side::Left, 1), ("LAST TOUCHED", Side::Left, 2)]);
    for run in &garbage.runs {
        let row = known.iter().find(|row| row.run == *run);
        let cells = row.map(|row| [clean(&row.crew), ago(row.updated_ms, now_ms())]).unwrap_or_default();
        table.row(std::iter::once(run.to_string()).chain(cells).collect());
    }
    if !table.is_empty() {
        context.table(&table);
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
