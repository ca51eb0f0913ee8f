//! The names of checkpoints, and which of them to load.

use crate::log::ids::{BadName, Epoch, Slot, keys};
use crate::store::{ObjectStore, Result, list_all};
use std::fmt;
use std::str::FromStr;

/// The name of a checkpoint: `<slot>-<epoch>` is an image of the tree after that slot, which lies in that
/// epoch's log; `<slot>-<epoch>~<slot>-<epoch>` is a delta on the image named last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name {
    /// The tree after this slot.
    pub slot: Slot,
    /// In whose log that slot lies.
    pub epoch: Epoch,
    /// Of a delta: the image it is based on.
    pub base: Option<(Slot, Epoch)>,
}

impl Name {
    /// An image's name.
    pub fn image(slot: Slot, epoch: Epoch) -> Name {
        Name { slot, epoch, base: None }
    }

    /// The object's key.
    pub fn key(&self) -> String {
        format!("{}{self}", keys::CHECKPOINT)
    }

    /// The name that a key holds; `None` for a key that is no checkpoint's.
    pub fn parse(key: &str) -> Option<Name> {
        key.strip_prefix(keys::CHECKPOINT)?.parse().ok()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.slot, self.epoch)?;
        match self.base {
            Some((slot, epoch)) => write!(f, "~{slot}-{epoch}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Name {
    type Err = BadName;
    fn from_str(s: &str) -> std::result::Result<Name, BadName> {
        let one = |s: &str| {
            let (slot, epoch) = s.split_once('-').ok_or(BadName)?;
            Ok((slot.parse()?, epoch.parse()?))
        };
        let (this, base) = match s.split_once('~') {
            Some((this, base)) => (one(this)?, Some(one(base)?)),
            None => (one(s)?, None),
        };
        Ok(Name { slot: this.0, epoch: this.1, base })
    }
}

/// What to load for one state of the tree: an image, and the delta on it if there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Every row.
    pub image: Name,
    /// What has changed since.
    pub delta: Option<Name>,
}

impl Plan {
    /// The checkpoint that this plan loads.
    pub fn target(&self) -> Name {
        self.delta.unwrap_or(self.image)
    }
}

/// Every checkpoint of the session, in no order. Keys that are no checkpoint's are passed over.
pub async fn list(store: &dyn ObjectStore) -> Result<Vec<Name>> {
    Ok(list_sized(store).await?.into_iter().map(|(name, _)| name).collect())
}

/// The same, each with its object's bytes.
pub async fn list_sized(store: &dyn ObjectStore) -> Result<Vec<(Name, u64)>> {
    let objects = list_all(store, keys::CHECKPOINT, None).await?;
    Ok(objects.iter().filter_map(|o| Some((Name::parse(&o.key)?, o.size))).collect())
}

/// What may be loaded, best first: the newest slot; of one slot an image before a delta. Only states at or
/// above `floor`, and only deltas whose image is there.
pub fn choose(names: &[Name], floor: Slot) -> Vec<Plan> {
    let mut plans: Vec<Plan> = names
        .iter()
        .filter(|n| n.slot >= floor)
        .filter_map(|n| match n.base {
            None => Some(Plan { image: *n, delta: None }),
            Some((slot, epoch)) => {
                let image = Name::image(slot, epoch);
                names.contains(&image).then_some(Plan { image, delta: Some(*n) })
            }
        })
        .collect();
    plans.sort_by_key(|p| {
        let t = p.target();
        (std::cmp::Reverse((t.slot, t.epoch)), p.delta.is_some(), std::cmp::Reverse(p.image))
    });
    plans
}
