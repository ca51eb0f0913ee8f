//! Watchers within the mount see what ext4's watchers see: the same events, of the same names, in the same order.

use super::beside::{Beside, beside};

/// What is done while it is watched: each kind of change, by programs that do it in one way only,
/// and never in the order of a listing.
const CHANGES: &str = "
    echo one > tree/a; echo two >> tree/a; cat tree/a > /dev/null; chmod 600 tree/a; touch -d 2000-01-01 tree/a
    setfattr -n user.x -v y tree/a; ln tree/a tree/b; ln -s a tree/s; mv tree/a tree/c; mv tree/c tree/sub/c; mv tree/sub/c tree/c
    truncate -s 1 tree/c; truncate -s 3M tree/c; head -c 5000 /dev/zero | dd of=tree/c bs=1000 conv=notrunc status=none
    rm tree/b; echo other > tree/o; mv tree/o tree/c; rm tree/s; mkdir tree/new; watching 3; rmdir tree/new; echo x > tree/sub/y; sed -i s/x/z/ tree/sub/kept
    mkfifo tree/sub/p; rm tree/sub/p; mv tree/sub tree/other; rm tree/other/y; rm -r tree/other; ls tree > /dev/null; rm tree/c; echo end > tree/end";

/// Equal events in a row count as one: the kernel merges those that nobody has read yet. In the changes,
/// `watching N` waits until that many files are watched, which the watcher does by itself with new directories.
///
/// Watches `tree` with a command that says when it is ready, does the changes, and waits for the last of them.
fn watched(watch: &str) -> String {
    format!(
        "rm -rf tree seen; mkdir -p tree/sub; echo x > tree/sub/kept
         watches() {{ cat /proc/$watcher/fdinfo/* 2> /dev/null | grep -c ^inotify; }}
         watching() {{ for n in $(seq 300); do [[ $(watches) == $1 ]] && return; sleep 0.1; done; return 1; }}
         {watch} & watcher=$!; trap 'kill $watcher' EXIT
         for n in $(seq 300); do grep -q established seen.err && break; sleep 0.1; done; grep -q established seen.err
         {CHANGES}
         for n in $(seq 300); do grep -q 'CLOSE_WRITE.*end$' seen && break; sleep 0.1; done
         kill $watcher; trap - EXIT; wait || true; rm seen.err; sed -E 's/sed[A-Za-z0-9]{{6}}/sedNAME/' seen | uniq"
    )
}

#[test]
fn inotify_sees_what_it_sees_on_ext4() {
    // Recursive, every event there is; a watch on one file; and one that goes when its directory does.
    let everything = watched("inotifywait -m -r --format '%w %e %f' tree > seen 2> seen.err");
    let work = |both: &Beside<'_>| {
        let said = both.run(&everything);
        for event in [
            "CREATE",
            "MODIFY",
            "ATTRIB",
            "MOVED_FROM",
            "MOVED_TO",
            "CLOSE_WRITE",
            "DELETE",
            "OPEN",
            "ACCESS",
            "DELETE_SELF",
        ] {
            assert!(said.contains(event), "no {event} in {said}");
        }
        // A watch on one file, which ends with the event.
        for (event, change) in [("modify", "echo y >> one"), ("delete_self", "echo z > other; mv other one")]
        {
            both.run(&format!(
                "echo x > one; timeout 60 inotifywait -e {event} --format '%w %e' one 2> seen.err & watcher=$!
                 for n in $(seq 300); do grep -q established seen.err && break; sleep 0.1; done
                 {change}; wait $watcher; rm seen.err"
            ));
        }
    };
    beside("inotify", &[], work, |both| {
        both.run(&everything);
    });
}

#[test]
fn a_watcher_of_node_sees_each_name() {
    // As bundlers and test runners watch their sources: by the runtime's own recursive watcher.
    let script = r#"
        const fs = require("fs"), names = new Set();
        const watcher = fs.watch("src", (event, name) => {
            names.add(`${event} ${name}`);
            if (name === "end") { watcher.close(); console.log([...names].sort().join("\n")); }
        });
        fs.writeFileSync("src/a", "1"); fs.appendFileSync("src/a", "2"); fs.renameSync("src/a", "src/b");
        fs.mkdirSync("src/d"); fs.rmdirSync("src/d"); fs.unlinkSync("src/b");
        fs.watchFile("polled", { interval: 50 }, (now, was) => {
            if (now.size !== was.size) { fs.unwatchFile("polled"); fs.writeFileSync("src/end", "") }
        });
        setTimeout(() => fs.appendFileSync("polled", "more"), 300);"#;
    let watch = format!("rm -rf src; mkdir -p src; echo > polled; timeout 60 node -e '{script}'");
    let work = |both: &Beside<'_>| {
        let said = both.run(&watch);
        for line in ["rename a", "change a", "rename b", "rename d", "rename end"] {
            assert!(said.lines().any(|l| l == line), "no {line:?} in {said}");
        }
    };
    beside("node-watch", &[], work, |both| {
        both.run(&watch);
    });
}
