//! /etc/fstab: lines for root and for a user, `mount -a`, credentials from a profile and from a file.

use crate::support::World;
use crate::support::machine::Machine;

#[test]
fn mount_a_mounts_what_is_to_be_mounted_and_says_what_cannot() {
    let world = World::new("fstab");
    let machine = Machine::new(&world, true);
    let (store, endpoint) = (&world.store, world.endpoint());
    let line = |rest: &str, dir: &str, more: &str| {
        let common = format!("endpoint={endpoint},region=us-east-1,environment-file=/etc/cwdfs.env");
        format!("{store}{rest} {dir} cwdfs _netdev,x-systemd.automount,{common}{more} 0 0\n")
    };
    let fstab = line("", "/mnt/a", ",nofail,noatime") + &line("/inner", "/mnt/b", ",noauto");
    machine.etc("fstab", &fstab, 0o644);
    machine.etc("bad", &line("-x", "/mnt/b", ",nonsense"), 0o644);
    machine.script(
        r#"
        mount -a
        mountpoint -q /mnt/a
        not mountpoint -q /mnt/b
        [[ ,$(findmnt -n -o OPTIONS /mnt/a), == *,noatime,* ]]
        mount -a
        [[ $(findmnt -n -o SOURCE /mnt/a | wc -l) == 1 ]]
        mount /mnt/b
        echo b > /mnt/b/f
        umount -a -t fuse.cwdfs
        [[ $(daemons) == 0 ]]
        exits 1 mount -T /etc/bad /mnt/b; says "nonsense"
        exits 32 mount -a -T /etc/bad; says "nonsense"
        "#,
    );
    assert_eq!(world.witness.text("inner/f"), "b\n");
}

#[test]
fn a_user_mounts_and_unmounts_the_line_that_says_user() {
    let world = World::new("fstab-user");
    let machine = Machine::new(&world, true);
    let (store, endpoint) = (&world.store, world.endpoint());
    machine.etc(
        "fstab",
        &format!("{store} /mnt/a cwdfs user,noauto,endpoint={endpoint},region=us-east-1,profile=sid42 0 0\n"),
        0o644,
    );
    machine.etc("aws", "[sid42]\naws_access_key_id = testkey\naws_secret_access_key = testsecret\n", 0o644);
    machine.script(
        r#"
        mkdir /mnt/home/.aws
        cp /etc/aws /mnt/home/.aws/credentials
        chown -R 4242:4242 /mnt/home /mnt/a
        as_user mount /mnt/a
        [[ $(findmnt -n -o SOURCE,FSTYPE /mnt/a | tr -s ' ') == "$STORE fuse.cwdfs" ]]
        for option in nosuid nodev noexec user_id=4242; do [[ ,$(findmnt -n -o OPTIONS /mnt/a), == *,$option,* ]]; done
        as_user sh -c 'echo mine > /mnt/a/f && cwdfs status --check /mnt/a'
        # Root neither enters it nor is kept from looking after it.
        not ls /mnt/a
        as_user umount /mnt/a
        [[ $(daemons) == 0 ]]
        # What is the user's, root can take away, and what it owes is stored.
        as_user mount /mnt/a
        as_user sh -c 'echo again > /mnt/a/g'
        umount /mnt/a
        for _ in {1..100}; do [[ $(daemons) == 0 ]] && break; sleep 0.2; done
        [[ $(daemons) == 0 ]]
        "#,
    );
    assert_eq!(world.witness.text("f"), "mine\n");
    assert_eq!(world.witness.text("g"), "again\n");
}
