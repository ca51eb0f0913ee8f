//! `inspect`: how a person looks inside a session: its lease, checkpoints, segments, and a segment's records.

use super::exit::{self, Exit, Failure};
use super::reach::{ReachArgs, Reached};
use crate::log::ids::Slot;
use crate::log::inspect::{self, Overview, SegmentView};
use crate::store::Location;
use serde::Serialize;
use std::fmt::Display;

/// Look inside a session: lease, checkpoints, segments, records
///
/// Reads only: a mounted session is not disturbed.
#[derive(Debug, clap::Args)]
#[command(after_help = super::exit::below_help(&["cwdfs inspect demo:sid42", "cwdfs inspect --json demo:sid42 17 | jq .[0].records"]))]
pub struct Args {
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: ReachArgs,
    /// `bucket:prefix`, `s3://bucket/prefix` or `file:///directory`
    #[arg(value_name = "STORE")]
    store: Location,
    /// Show the records of this slot
    #[arg(value_name = "SLOT")]
    slot: Option<u64>,
}

/// Reads and prints.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let text = super::wait_for(look(args))?;
    super::say(&text)?;
    Ok(Exit::Done)
}

async fn look(args: &Args) -> Result<String, Failure> {
    let at = |failure: Failure| failure.context(&args.store);
    let store = Reached::to_read(&args.store, &args.reach).await.map_err(at)?.store;
    let read = |error| {
        let exit = exit::of_check(&error);
        at(Failure::new(exit, error))
    };
    match args.slot {
        None => {
            let session = inspect::session(store.as_ref()).await.map_err(read)?;
            if nothing(&session) {
                return Err(at(Failure::new(Exit::CannotStart, "there is no session here")));
            }
            text(&session, args.json)
        }
        Some(slot) => {
            let segments = inspect::segment(store.as_ref(), Slot(slot)).await.map_err(read)?;
            if segments.is_empty() {
                let what = format!("no segment has slot {slot}; `cwdfs inspect {}` lists them", args.store);
                return Err(at(Failure::new(Exit::CannotStart, what)));
            }
            text(&Segments(segments), args.json)
        }
    }
}

fn nothing(session: &Overview) -> bool {
    session.lease.is_none() && session.checkpoints.is_empty() && session.segments.is_empty()
}

/// The segments at one slot, of one epoch each.
#[derive(Serialize)]
#[serde(transparent)]
struct Segments(Vec<SegmentView>);

impl Display for Segments {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|segment| segment.fmt(f))
    }
}

fn text(what: &(impl Serialize + Display), json: bool) -> Result<String, Failure> {
    if json { super::json(what) } else { Ok(what.to_string()) }
}
