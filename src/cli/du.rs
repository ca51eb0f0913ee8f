//! `du`: what a session takes up in its store.

use super::exit::{self, Exit, Failure};
use super::reach::{ReachArgs, Reached};
use super::values::human_size;
use crate::log::summary::{self, Amount, Usage};
use crate::store::Location;
use serde_json::json;

/// Show what a session takes up in its store, by kind
///
/// One listing; reads no object. Old versions of a versioned bucket are not seen.
#[derive(Debug, clap::Args)]
#[command(after_help = super::exit::below_help(&["cwdfs du demo:sid42", "cwdfs du --json demo:sid42 | jq .total.bytes"]))]
pub struct Args {
    /// As JSON: view, log, data, checkpoints, other, total, each with objects and bytes
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: ReachArgs,
    /// `bucket:prefix`, `s3://bucket/prefix` or `file:///directory`
    #[arg(value_name = "STORE")]
    store: Location,
}

/// Lists and prints.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let usage = super::wait_for(list(args)).map_err(|failure| failure.context(&args.store))?;
    if args.json {
        let Usage { view, log, data, checkpoints, other } = usage;
        let total = usage.total();
        let json = json!({ "view": view, "log": log, "data": data, "checkpoints": checkpoints, "other": other, "total": total });
        super::say(&super::json(&json)?)?;
    } else {
        super::say(&text(&usage))?;
    }
    Ok(Exit::Done)
}

async fn list(args: &Args) -> Result<Usage, Failure> {
    let store = Reached::to_read(&args.store, &args.reach).await?.store;
    let usage = summary::usage(store.as_ref()).await.map_err(|e| Failure::new(exit::of_check(&e), e))?;
    if usage.total().objects == 0 {
        return Err(Failure::new(Exit::CannotStart, "there is nothing here"));
    }
    Ok(usage)
}

fn text(usage: &Usage) -> String {
    let line = |name: &str, Amount { objects, bytes }: Amount| {
        format!("{name:<14}{:>10} in {objects} objects\n", human_size(bytes))
    };
    [
        line("plain objects", usage.view),
        line("log", usage.log),
        line("data", usage.data),
        line("checkpoints", usage.checkpoints),
        line("other", usage.other),
        line("total", usage.total()),
    ]
    .concat()
}
