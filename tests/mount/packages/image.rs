//! The minimal image, in a container: the daemon is process 1 and stores everything before it ends.

use super::{packaging, program, scratch};
use crate::support::container::Container;
use crate::support::{Ran, World, eventually};
use std::time::Duration;

#[test]
fn the_image_mounts_and_stores_what_it_owes_when_it_is_stopped() {
    let image = Ran::of(packaging("image/build").arg(program()).arg(scratch("image"))).ok().out;
    let world = World::new("package-image");
    let options = ["--cap-drop", "all", "--cap-add", "SYS_ADMIN", "--cap-add", "DAC_OVERRIDE"];
    let command = ["mount", "--foreground", "--durability", "fsync", &world.store, "/mnt"];
    let container = Container::of_image(&world, image.trim(), &options, &command);
    eventually("the mount", Duration::from_secs(120), || container.log().contains("mounted"));
    std::fs::write(container.path("/mnt/f"), "from outside").expect("a file");
    assert_eq!(container.stop(), Some(0), "{}", container.log());
    assert_eq!(world.witness.text("f"), "from outside");
}
