//! No file system at all: the works do with a plain client of the store what the others do with files.

use super::{Kind, Mounted, System};
use crate::support::World;

/// The SDK through the relay.
pub struct Raw;

impl System for Raw {
    fn name(&self) -> String {
        "raw".into()
    }

    fn kind(&self) -> Kind {
        Kind::Raw
    }

    fn promise(&self) -> String {
        "the same bytes by the SDK, through the same relay: a request returns when the store has it".into()
    }

    fn mount<'w>(&self, _world: &'w World, _host: &str, _options: &[&str]) -> Box<dyn Mounted + 'w> {
        unreachable!("works ask for it before they mount")
    }
}
