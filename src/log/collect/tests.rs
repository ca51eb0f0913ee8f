//! Which checkpoints stay, and how far the floor may go.

use super::*;
use crate::log::ids::SessionId;
use crate::log::segment::{Header, Kind, encode, encode_seal};
use crate::log::source::Sealed;
use crate::log::testing::{Chaos, Shared, options};
use std::time::Duration;
use tokio::time::Instant;

const EPOCH: Epoch = Epoch { counter: 3, nonce: 7 };

fn image(slot: u64) -> Name {
    Name::image(Slot(slot), EPOCH)
}

fn delta(slot: u64, on: u64) -> Name {
    Name { slot: Slot(slot), epoch: EPOCH, base: Some((Slot(on), EPOCH)) }
}

#[test]
fn the_floor_is_the_newest_state_that_does_not_need_the_newest_image() {
    assert_eq!(floor_of(&[]), None);
    assert_eq!(floor_of(&[image(10)]), None);
    assert_eq!(floor_of(&[image(10), delta(20, 10), delta(30, 10)]), None, "all stand on one image");
    assert_eq!(floor_of(&[image(10), image(30)]), Some(Slot(10)));
    assert_eq!(floor_of(&[image(10), delta(20, 10), image(30), delta(40, 30)]), Some(Slot(20)));
    assert_eq!(floor_of(&[delta(20, 10), image(30)]), None, "a delta without its image is nothing");
    assert_eq!(floor_of(&[image(10), image(30), image(50), delta(60, 50)]), Some(Slot(30)));
}

#[test]
fn what_the_floor_and_later_states_stand_on_stays() {
    let names = [
        image(5),
        delta(8, 5),
        image(10),
        delta(15, 10),
        delta(20, 10),
        image(30),
        delta(31, 30),
        delta(32, 30),
        delta(33, 30),
    ];
    let floor = floor_of(&names).unwrap();
    assert_eq!(floor, Slot(20));
    let gone: HashSet<Name> = doomed(&names, floor).into_iter().collect();
    assert_eq!(gone, HashSet::from([image(5), delta(8, 5), delta(15, 10), delta(31, 30)]));
    // Whatever else is damaged, the newest state and the floor's can still be loaded, and nothing more goes.
    let left: Vec<Name> = names.into_iter().filter(|name| !gone.contains(name)).collect();
    assert_eq!(floor_of(&left), Some(floor));
    assert_eq!(doomed(&left, floor), []);
}

#[test]
fn nothing_is_doomed_before_there_is_a_floor() {
    let names = [image(10), delta(20, 10), delta(30, 10)];
    assert_eq!(doomed(&names, Slot(0)), []);
    // A state at or above the floor whose image was not listed is left alone.
    assert_eq!(doomed(&[delta(40, 39), image(50), image(60)], Slot(30)), []);
    assert_eq!(doomed(&[], Slot(30)), []);
}

#[tokio::test(start_paused = true)]
async fn the_floor_rises_by_the_lease_only_and_never_sinks() {
    let shared = Shared::new();
    let client = shared.client();
    let first = crate::log::lease::First { session: None, origin: None, counter: 1 };
    let lease = crate::log::lease::create(&client.store(), &options("w"), first).await.unwrap().unwrap();
    let floor = async || Lease::peek(client.as_ref()).await.unwrap().unwrap().floor;
    assert_eq!(raise_floor(&[image(10)], &lease).await.unwrap(), Slot(0));
    assert_eq!(client.count("put", keys::LEASE), 1, "nothing to say, nothing is written");
    assert_eq!(raise_floor(&[image(10), image(30)], &lease).await.unwrap(), Slot(10));
    assert_eq!(floor().await, Slot(10));
    assert_eq!(raise_floor(&[image(5), image(7)], &lease).await.unwrap(), Slot(10));
    assert_eq!(floor().await, Slot(10));
    // A successor has the lease: no raise succeeds, and nothing is deleted on the word of one.
    let seen = crate::log::lease::read(client.as_ref()).await.unwrap().unwrap();
    let takeover = crate::log::testing::takeover("s");
    crate::log::lease::take(&client.store(), &takeover, seen).await.unwrap().unwrap();
    let fenced = raise_floor(&[image(10), image(30), image(50)], &lease).await;
    assert!(matches!(fenced, Err(LogError::Fenced { .. })), "{fenced:?}");
    assert_eq!(floor().await, Slot(10));
}

/// What a writer that was succeeded has left, as another machine finds it: hundreds of small objects, one of which is
/// the seal.
#[tokio::test(start_paused = true)]
async fn a_seal_is_found_among_many_segments_in_a_few_round_trips() {
    const SEGMENTS: u64 = 300;
    /// Before the effect, and as long again before the answer.
    const DELAY_MS: u64 = 400;
    const LONGEST_ANSWER: Duration = Duration::from_millis(2 * DELAY_MS);
    let shared = Shared::new();
    let header = |slot, kind| {
        let (session, wall_ms, committed) = (SessionId(5), 1_700_000_000_000, Slot(0));
        Header { session, epoch: EPOCH, slot: Slot(slot), wall_ms, label: None, committed, kind }
    };
    let ours = Epoch { counter: 4, nonce: 1 };
    for slot in 1..=SEGMENTS {
        let empty = Sealed { last_seq: 1, records: vec![], pieces: vec![] };
        let segment = encode(&header(slot, Kind::Changes), empty).unwrap();
        shared.set(&keys::segment(EPOCH, Slot(slot)), segment.bytes);
    }
    let seal = encode_seal(&header(SEGMENTS + 1, Kind::Seal { successor: ours })).0;
    shared.set(&keys::segment(EPOCH, Slot(SEGMENTS + 1)), seal);
    let client = shared.client();
    client.chaos(Chaos::new(1, DELAY_MS, 0.0));
    let old = log::up_to(client.as_ref(), ours, Slot(1000)).await.unwrap();
    let begun = Instant::now();
    let segments = log::without_seals(client.as_ref(), old).await.unwrap();
    assert_eq!(segments, (1..=SEGMENTS).map(|slot| (EPOCH, Slot(slot))).collect::<Vec<_>>());
    let most = LONGEST_ANSWER * 12;
    assert!(begun.elapsed() < most, "{SEGMENTS} objects were looked at in {:?}", begun.elapsed());
}
