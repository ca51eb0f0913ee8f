//! Names of one inode.

use crate::support::way::{Way, comes_back};
use crate::support::{World, full, same_as_ext4};
use std::fs;
use std::os::unix::fs::MetadataExt;

/// What ext4 takes.
const MOST: u64 = 65_000;

#[test]
fn a_file_has_thousands_of_names_and_ext4s_bound() {
    let way = Way::drawn("links")[0];
    let world = World::with_relay("links");
    let options = way.options(&["--no-publish"]);
    let wanted = if full() { MOST } else { 1500 };
    let mount = same_as_ext4(&world, &options, |dir, story| {
        fs::create_dir(dir.join("d")).expect("mkdir");
        fs::write(dir.join("first"), "one content").expect("write");
        for n in 1..wanted {
            fs::hard_link(dir.join("first"), dir.join(format!("d/{n}"))).expect("link");
        }
        let links = |name: &str| fs::metadata(dir.join(name)).map(|meta| meta.nlink());
        story.note("links", links("first"));
        if wanted == MOST {
            story.note("one more", fs::hard_link(dir.join("first"), dir.join("d/more")));
            story.note("links", links("d/7"));
            fs::remove_file(dir.join("d/8")).expect("unlink");
            story.note("again", fs::hard_link(dir.join("first"), dir.join("d/more")));
        }
        // The first name goes, then half of the others, in the order of the listing.
        story.note("unlink the first", fs::remove_file(dir.join("first")));
        let listed: Vec<_> =
            fs::read_dir(dir.join("d")).expect("list").map(|e| e.expect("entry").path()).collect();
        story.note("names", Ok(listed.len()));
        let half = listed.len() / 2;
        listed[..half].iter().for_each(|path| fs::remove_file(path).expect("unlink"));
        let left = fs::metadata(&listed[half]).expect("stat");
        story.note("links", Ok(left.nlink()));
        story.note("content", fs::read_to_string(&listed[half]));
    });
    let mount = comes_back(&world, mount, "b", &options);
    // Names in one order or the other: none of them makes a removal slower than the last.
    let left: Vec<_> =
        fs::read_dir(mount.path("d")).expect("list").map(|e| e.expect("entry").path()).collect();
    left.iter().for_each(|path| fs::remove_file(path).expect("unlink"));
    fs::remove_dir(mount.path("d")).expect("it is empty");
    mount.unmount();
}
