//! The interleavings of the view that break simpler designs, by name: told as the rules have it, and with the one rule
//! broken that answers it; then the end of every run has to say so.

use super::ledger::Ledger;
use super::outside::Outside;
use super::run::{end_well, tell};
use super::site::{At, Manner, Site};
use crate::log::ids::keys;
use crate::log::rules::Rule;
use crate::log::testing::Gate;
use crate::simulation::disk::Disks;
use crate::simulation::faults::Fault;
use crate::simulation::life::{Host, Life};
use crate::simulation::scenarios::prove_told;
use crate::simulation::world::World;
use crate::store::Kind;
use std::sync::Arc;
use std::time::Duration;

const A: At = At { directory: None, name: "a" };
const B: At = At { directory: None, name: "b" };
const IN_D: At = At { directory: Some("d"), name: "a" };

/// Where a story is told.
struct Stage {
    world: Arc<World>,
    disks: Arc<Disks>,
    ledger: Arc<Ledger>,
    outside: Outside,
}

fn prove<F: Future<Output = ()>>(rule: Rule, story: impl Fn(Stage) -> F) {
    prove_told(rule, || {
        tell(1, |world, disks, ledger| {
            let outside = Outside { world: world.clone(), ledger: ledger.clone() };
            story(Stage { world, disks, ledger, outside })
        })
    });
}

/// Tells a story that no single rule answers.
fn must_be_whole<F: Future<Output = ()>>(story: impl Fn(Stage) -> F) {
    let whole = tell(1, |world, disks, ledger| {
        let outside = Outside { world: world.clone(), ledger: ledger.clone() };
        story(Stage { world, disks, ledger, outside })
    });
    assert_eq!(whole.violation, None, "{}", whole.tail);
}

impl Stage {
    async fn mount(&self, name: &str) -> Arc<Site> {
        let life = Life::new(&Host::new(name, self.world.start));
        match Site::mount(&self.world, &self.ledger, &life, &self.disks.blank()).await {
            Ok(site) => site,
            Err(error) => {
                self.world.violate(format!("{name} cannot mount: {error}"));
                std::future::pending().await
            }
        }
    }

    async fn after(&self, seconds: u64) {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }

    /// Writes a file; when this returns, it is stored.
    async fn write(&self, site: &Arc<Site>, at: At) {
        site.write(at, Manner::Whole).await.expect("a file is written");
        assert!(site.wait().await, "it is stored");
    }

    /// The same, and published.
    async fn publish(&self, site: &Arc<Site>, at: At) {
        self.write(site, at).await;
        self.after(3).await;
    }

    fn hold(&self, who: &'static str, operation: &'static str, key: &str, skip: u32) -> Gate {
        let gate = Gate::new();
        let fault = Fault::HoldBefore(gate.clone());
        self.world.faults.lock().script(who, operation, key, (skip, 1), fault);
        gate
    }

    /// The writer looks once more at what others did.
    async fn end_after(&self, site: &Arc<Site>) {
        drop(site.view.refresh().await);
        site.wait().await;
        self.end().await;
    }

    async fn end(&self) {
        end_well(&self.world, &self.disks, &self.ledger).await;
    }
}

/// (3) A file whose content is still in the object that it was imported from: the object goes with its directory's
/// old name.
#[test]
fn a_plain_object_is_not_the_only_copy() {
    prove(Rule::OwnedBeforeChange, |stage| async move {
        stage.outside.write(IN_D);
        let site = stage.mount("one").await;
        stage.after(3).await;
        site.change_directory("d", "e").expect("a directory is moved");
        assert!(site.wait().await);
        stage.after(5).await;
        stage.end().await;
    });
}

/// (4) Published, and dead before that was noted; the next version is written before anybody looks.
#[test]
fn what_was_published_and_not_noted_is_known_by_its_tag() {
    prove(Rule::TagIsOurs, |stage| async move {
        let one = stage.mount("one").await;
        stage.publish(&one, A).await;
        stage.world.faults.lock().script("one", "put", "a", (0, 1), Fault::CrashAfter);
        stage.publish(&one, A).await;
        let two = stage.mount("two").await;
        stage.publish(&two, A).await;
        stage.end().await;
    });
}

/// A file is removed while it is published for the first time.
#[test]
fn what_is_removed_while_it_is_published_goes() {
    must_be_whole(|stage| async move {
        let site = stage.mount("one").await;
        let gate = stage.hold("one", "put", "a", 0);
        stage.publish(&site, A).await;
        site.remove(A).expect("a file is removed");
        assert!(site.wait().await);
        stage.after(3).await;
        gate.open();
        stage.after(5).await;
        stage.end().await;
    });
}

/// A file is moved away and back while its first name is deleted.
#[test]
fn what_comes_back_while_it_is_deleted_is_published() {
    must_be_whole(|stage| async move {
        let site = stage.mount("one").await;
        stage.publish(&site, A).await;
        let gate = stage.hold("one", "delete", "a", 0);
        site.rename(A, B).expect("a file is moved");
        assert!(site.wait().await);
        stage.after(5).await;
        site.rename(B, A).expect("a file is moved back");
        assert!(site.wait().await);
        stage.after(3).await;
        gate.open();
        stage.after(5).await;
        stage.end().await;
    });
}

/// (5) The listing is taken while a key is not there, and compared once it is there again.
#[test]
fn a_listing_that_publishing_overtakes_deletes_nothing() {
    prove(Rule::LookBeforeGone, |stage| async move {
        let site = stage.mount("one").await;
        stage.publish(&site, A).await;
        // The first is for the lease, and so is the third.
        let (listing, lease) = (stage.hold("one", "list", "", 1), stage.hold("one", "list", keys::LEASE, 0));
        let view = site.view.clone();
        let refreshing = tokio::spawn(async move { view.refresh().await });
        stage.after(1).await;
        site.remove(A).expect("a file is removed");
        assert!(site.wait().await);
        stage.after(3).await;
        listing.open();
        stage.after(1).await;
        stage.publish(&site, A).await;
        lease.open();
        drop(refreshing.await);
        assert!(site.wait().await);
        stage.end().await;
    });
}

/// (5) Something that is not the bucket answers.
#[test]
fn an_empty_bucket_without_our_lease_deletes_nothing() {
    prove(Rule::ListingShowsLease, |stage| async move {
        let site = stage.mount("one").await;
        stage.publish(&site, A).await;
        stage.world.faults.lock().blind = true;
        stage.end_after(&site).await;
    });
}

/// (13) A PUT of a writer that has been succeeded meanwhile lands while the object is still what it knew.
#[test]
fn a_late_publish_of_a_predecessor_is_mended() {
    prove(Rule::TagIsOurs, |stage| async move {
        let one = stage.mount("one").await;
        stage.publish(&one, A).await;
        let gate = stage.hold("one", "put", "a", 0);
        stage.publish(&one, A).await;
        let newer = stage.hold("two", "put", "a", 0);
        let two = stage.mount("two").await;
        stage.write(&two, A).await;
        gate.open();
        stage.after(1).await;
        newer.open();
        stage.after(5).await;
        stage.end().await;
    });
}

/// A predecessor that knows nothing of it comes back to a DELETE that it could not send, and somebody outside has put the
/// same bytes there again: they are nowhere else.
#[test]
fn a_predecessor_does_not_delete_what_is_there_again() {
    prove(Rule::DeletedByTheWriter, |stage| async move {
        let one = stage.mount("one").await;
        let token = stage.ledger.token("one");
        one.write_again(A, token).await.expect("a file is written");
        assert!(one.wait().await);
        stage.after(3).await;
        stage.world.faults.lock().script("one", "delete", "a", (0, 5), Fault::Refused(Kind::Unavailable));
        one.remove(A).expect("a file is removed");
        assert!(one.wait().await);
        // Its DELETE is in the log, and was refused.
        stage.after(4).await;
        let renewal = stage.hold("one", "put", keys::LEASE, 0);
        one.life.host.suspend();
        let two = stage.mount("two").await;
        stage.after(2).await;
        stage.outside.write_again(A, token);
        drop(two.view.refresh().await);
        one.life.host.resume();
        stage.after(5).await;
        renewal.open();
        stage.end_after(&two).await;
    });
}

/// A DELETE that was sent again arrives once more, when the name has another object with the same ETag, and the mount
/// that sent it is not there any more.
#[test]
fn a_delete_that_comes_late_is_nobodys_wish() {
    prove(Rule::NotedBeforeDelete, |stage| async move {
        let one = stage.mount("one").await;
        one.symlink(A).expect("a symlink is made");
        assert!(one.wait().await);
        stage.after(3).await;
        let late = Fault::Late(Duration::from_secs(20));
        stage.world.faults.lock().script("one", "delete", "a", (0, 1), late);
        one.remove(A).expect("a symlink is removed");
        assert!(one.wait().await);
        stage.after(10).await;
        one.symlink(A).expect("a symlink is made again");
        assert!(one.wait().await);
        stage.after(3).await;
        one.close().await;
        stage.after(20).await;
        let two = stage.mount("two").await;
        stage.end_after(&two).await;
    });
}

/// An outside edit comes while a newer version of ours is on its way.
#[test]
fn an_edit_that_comes_first_is_not_overwritten() {
    prove(Rule::WrittenIfKnown, |stage| async move {
        let site = stage.mount("one").await;
        stage.publish(&site, A).await;
        let gate = stage.hold("one", "put", "a", 0);
        stage.publish(&site, A).await;
        stage.outside.write(A);
        gate.open();
        stage.after(3).await;
        stage.end().await;
    });
}

/// (14) All objects without bytes have one ETag: another target of a symlink is an edit nevertheless.
#[test]
fn a_symlink_that_was_changed_outside_is_not_overwritten() {
    prove(Rule::EmptyByHeaders, |stage| async move {
        stage.outside.symlink(A);
        let site = stage.mount("one").await;
        // Long after it was looked at.
        stage.after(90).await;
        site.symlink(A).expect("a symlink is made");
        stage.outside.symlink(A);
        assert!(site.wait().await);
        stage.after(5).await;
        stage.end().await;
    });
}
