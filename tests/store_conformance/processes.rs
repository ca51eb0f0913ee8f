//! Conditional writes of the directory store hold between processes: this program runs itself.

use crate::suite::{absent, matching};
use cwdfs::store::{Condition, DirStore, ObjectStore};
use std::process::{Command, Stdio};
use tempfile::TempDir;

const DIR: &str = "CWDFS_TEST_RACE_DIR";
const RACERS: usize = 32;
const ROUNDS: usize = 20;

/// What each process does: takes what it can of each round, and counts up a shared number.
#[tokio::test]
#[ignore = "run by one_winner_between_processes, as a process of its own"]
async fn racer() {
    let dir = std::env::var_os(DIR).expect("a directory to race in");
    let store = DirStore::new(dir);
    for round in 0..ROUNDS {
        if store.put(&format!("won/{round}"), "x".into(), &absent()).await.is_ok() {
            println!("WON {round}");
        }
        count_up(&store).await;
    }
}

async fn count_up(store: &DirStore) {
    loop {
        let object = store.get("count", None, None).await.expect("the count");
        let count: usize = std::str::from_utf8(&object.body).unwrap().parse().unwrap();
        let next = format!("{}", count + 1);
        match store.put("count", next.into(), &matching(&object.meta.etag)).await {
            Ok(_) => return,
            Err(error) => assert!(error.is_precondition(), "{error}"),
        }
    }
}

#[tokio::test]
async fn one_winner_between_processes() {
    let dir = TempDir::new().unwrap();
    let store = DirStore::new(dir.path().join("session"));
    store.put("count", "0".into(), &absent()).await.unwrap();
    let racers: Vec<_> = (0..RACERS)
        .map(|_| {
            Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "processes::racer", "--ignored", "--nocapture"])
                .env(DIR, dir.path().join("session"))
                .stdout(Stdio::piped())
                .spawn()
                .expect("a racer")
        })
        .collect();
    let mut wins = [0; ROUNDS];
    for racer in racers {
        let output = racer.wait_with_output().expect("a racer's end");
        assert!(output.status.success());
        for line in String::from_utf8(output.stdout).unwrap().lines() {
            if let Some(round) = line.split("WON ").nth(1) {
                wins[round.parse::<usize>().unwrap()] += 1;
            }
        }
    }
    assert_eq!(wins, [1; ROUNDS]);
    let count = store.get("count", None, None).await.unwrap().body;
    assert_eq!(count, (RACERS * ROUNDS).to_string(), "no count was lost");
    store.delete("count", &Condition::None).await.unwrap();
}
