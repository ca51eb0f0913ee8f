//! One suite for every store: the invariants of `cwdfs::store`, on a directory, on that through a faulty
//! store that does nothing wrong, and on a real S3 server.

#[path = "../support/seaweed.rs"]
mod seaweed;

mod processes;
mod races;
mod s3;
mod stores;
mod suite;

/// Runs each check of the suite on each store.
macro_rules! conformance {
    ($($module:ident :: $check:ident),* $(,)?) => {
        conformance!(@on on_dir, crate::stores::dir, $($module::$check),*);
        conformance!(@on on_faulty, crate::stores::faulty, $($module::$check),*);
        conformance!(@on on_s3, crate::stores::s3, $($module::$check),*);
    };
    (@on $name:ident, $make:path, $($module:ident :: $check:ident),*) => {
        mod $name {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $check() {
                    let fixture = $make().await;
                    crate::$module::$check(fixture.store.clone()).await;
                }
            )*
        }
    };
}

conformance!(
    suite::objects_come_back_as_they_were_put,
    suite::ranges,
    suite::etags_follow_the_bytes,
    suite::metadata_stay_with_the_object,
    suite::conditions_on_put,
    suite::conditions_on_get,
    suite::conditions_on_delete,
    suite::deleting_what_is_not_there,
    suite::deleting_many,
    suite::listing_is_in_byte_order_and_in_pages,
    suite::listing_is_by_prefix_of_the_key,
    suite::folders_are_named_once,
    suite::keys_of_every_sort,
    suite::copies,
    suite::multipart,
    suite::multipart_conditions,
    suite::multipart_copies_ranges,
    suite::multipart_is_nothing_until_completed,
    suite::multipart_refuses_wrong_parts,
    suite::bad_keys_are_refused,
    races::one_winner_of_creation,
    races::one_winner_of_each_replacement,
    races::one_winner_of_deletion_or_replacement,
    races::one_winner_of_completion,
    races::readers_see_whole_objects,
    races::random_operations_as_a_map_does_them,
);
