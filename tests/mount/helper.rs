//! mount(8) and umount(8) with cwdfs as their helper: the real ones, on a machine where it is installed.

use crate::support::World;
use crate::support::machine::Machine;

#[test]
fn mount_8_mounts_lists_and_umount_8_returns_when_all_is_stored() {
    let world = World::new("mount-8");
    Machine::new(&world, true).script(
        r#"
        mount -v -t cwdfs "$STORE" /mnt/a -o "$REACH,environment-file=/etc/cwdfs.env,allow_other,noexec,publish_delay=0" > /run/said
        says "$STORE mounted on /mnt/a"
        [[ $(findmnt -n -o SOURCE,FSTYPE /mnt/a | tr -s ' ') == "$STORE fuse.cwdfs" ]]
        options=$(findmnt -n -o OPTIONS /mnt/a)
        for option in rw nosuid nodev noexec allow_other; do [[ ,$options, == *,$option,* ]]; done
        echo hello > /mnt/a/f
        exits 0 mount -t cwdfs "$STORE" /mnt/a -o "$REACH"; says "already mounted"
        umount -v /mnt/a
        [[ $(daemons) == 0 ]] || { echo "umount returned before the daemon had drained" >&2; exit 1; }
        not mountpoint -q /mnt/a
        mount -t fuse.cwdfs "$STORE" /mnt/b -o "$REACH,environment-file=/etc/cwdfs.env"
        [[ $(cat /mnt/b/f) == hello ]]
        umount /mnt/b
        "#,
    );
    assert_eq!(world.witness.text("f"), "hello\n");
}

#[test]
fn remounted_read_only_it_takes_nothing_until_it_is_remounted_read_write() {
    let world = World::new("remount");
    Machine::new(&world, true).script(
        r#"
        mount -t cwdfs "$STORE" /mnt/a -o "$REACH,environment-file=/etc/cwdfs.env,durability=fsync,publish_delay=0"
        exec 5> /mnt/a/open
        exits 32 mount -o remount,ro /mnt/a; says "open for writing"
        echo before >&5
        exec 5>&-
        mount -o remount,ro /mnt/a
        cwdfs status --json /mnt/a > /run/status
        grep -q '"read_only": true' /run/status
        python3 -c 'import json; s = json.load(open("/run/status")); assert s["uncommitted"]["files"] == 0, s'
        exits 1 touch /mnt/a/new; says "read-only file system"
        exits 1 rm /mnt/a/open; says "read-only file system"
        [[ $(cat /mnt/a/open) == before ]]
        exits 1 mount -o remount,rw,durability=close /mnt/a; says "durability=close cannot be changed"
        mount -o remount,rw,noexec /mnt/a
        [[ ,$(findmnt -n -o OPTIONS /mnt/a), == *,noexec,* ]]
        echo after > /mnt/a/new
        umount /mnt/a
        mount -t cwdfs -r "$STORE" /mnt/a -o "$REACH,environment-file=/etc/cwdfs.env"
        [[ $(cat /mnt/a/new) == after ]]
        exits 32 mount -o remount,rw /mnt/a; says "follow"
        exits 1 touch /mnt/a/more
        umount /mnt/a
        "#,
    );
    assert_eq!(world.witness.text("open"), "before\n");
    assert_eq!(world.witness.text("new"), "after\n");
}

#[test]
fn the_exit_codes_are_those_of_mount_8() {
    let world = World::new("mount-8-codes");
    let machine = Machine::new(&world, true);
    machine.etc("open.env", "AWS_SECRET_ACCESS_KEY=hunter2\n", 0o644);
    machine.script(
        r#"
        creds=environment-file=/etc/cwdfs.env
        exits 1 mount -t cwdfs "$STORE" /mnt/a -o "$REACH,nonsense=1"; says "nonsense: no such option"
        exits 1 mount -t cwdfs no-prefix /mnt/a -o "$REACH,$creds"; says "bucket:prefix"
        for secret in secret_key aws_access_key_id AWS_SESSION_TOKEN passwd_file; do
          exits 1 mount -t cwdfs "$STORE" /mnt/a -o "$REACH,$secret=hunter2"; says "every user can read"
          not grep -q hunter2 /run/said
        done
        exits 1 mount -t cwdfs "$STORE" /mnt/a -o "endpoint=http://me:hunter2@127.0.0.1:1"; says "every user can read"
        exits 32 mount -t cwdfs "$STORE" /mnt/a -o "$REACH,environment-file=/etc/open.env"; says "chmod 600"
        exits 32 mount -t cwdfs no-such-bucket-here:x /mnt/a -o "$REACH,$creds,timeout=5s"; says "no-such-bucket-here"
        exits 34 mount -t cwdfs "$STORE" /mnt/a -o "endpoint=http://127.0.0.1:9,region=r,$creds,timeout=2s"; says "127.0.0.1:9"
        not mountpoint -q /mnt/a
        mount -t cwdfs "$STORE" /mnt/a -o "$REACH,$creds"
        exits 32 mount -t cwdfs "$STORE-other" /mnt/a -o "$REACH,$creds"; says "mounted there already"
        exec 5> /mnt/a/open
        exits 34 umount /mnt/a; says "in use"
        exits 0 umount -l /mnt/a
        "#,
    );
}

#[test]
fn the_helper_takes_every_word_that_mount_8_has_for_it() {
    let world = World::new("helper-words");
    Machine::new(&world, true).script(
        r#"
        creds=environment-file=/etc/cwdfs.env
        exits 0 mount.cwdfs --help; says "34  cannot now"
        exits 0 mount.cwdfs "$STORE" /mnt/a -f -n -o "rw,$REACH,$creds" -t fuse.cwdfs
        not mountpoint -q /mnt/a
        exits 32 mount.cwdfs "$STORE" /mnt/missing -f -o "rw,$REACH"; says "no such directory"
        exits 1 mount.cwdfs "$STORE" /mnt/a -o "$REACH,nonsense,$creds"
        exits 0 mount -s -t cwdfs "$STORE" /mnt/a -o "$REACH,nonsense,$creds,lazy=\"a,b\""; says "left out: -o nonsense"
        umount -f -n /mnt/a
        exits 0 umount.cwdfs /mnt/a; says "not mounted"
        exits 1 mount.cwdfs "$STORE"; says "DIR"
        # Another mount namespace, given as mount(8) gives it.
        unshare --mount --propagation private sleep 600 &
        other=$!
        until [[ $(readlink /proc/$other/ns/mnt) != $(readlink /proc/self/ns/mnt) && $(cat /proc/$other/comm) == sleep ]]; do sleep 0.1; done
        mount -N $other -t cwdfs "$STORE" /mnt/b -o "$REACH,$creds"
        not mountpoint -q /mnt/b
        nsenter --mount=/proc/$other/ns/mnt sh -c 'mountpoint -q /mnt/b && echo there > /mnt/b/f'
        umount -N $other /mnt/b
        not nsenter --mount=/proc/$other/ns/mnt mountpoint -q /mnt/b
        kill $other
        "#,
    );
    assert_eq!(world.witness.text("f"), "there\n");
}

#[test]
fn without_its_helper_umount_8_returns_at_once_and_the_daemon_drains() {
    let world = World::new("umount-bare");
    Machine::new(&world, false).script(
        r#"
        mount -t cwdfs "$STORE" /mnt/a -o "$REACH,environment-file=/etc/cwdfs.env,durability=fsync,commit_interval=60s"
        echo kept > /mnt/a/f
        umount /mnt/a
        not mountpoint -q /mnt/a
        # The next mount waits for what the last one owes.
        mount -t cwdfs "$STORE" /mnt/a -o "$REACH,environment-file=/etc/cwdfs.env"
        [[ $(cat /mnt/a/f) == kept ]]
        echo more > /mnt/a/g
        umount /mnt/a
        # So does who unmounts what is unmounted.
        exits 0 cwdfs unmount /mnt/a
        [[ $(daemons) == 0 ]]
        "#,
    );
    assert_eq!(world.witness.text("f"), "kept\n");
    assert_eq!(world.witness.text("g"), "more\n");
}
