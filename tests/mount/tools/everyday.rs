//! Editors, stream editors, locks, searches and make: small programs that each do something a file system has to
//! get right, with their output on a local disk as the oracle.

use super::beside::{Beside, Times, beside};
use crate::support::full;

/// vim as a script: no settings, no terminal; swap, backup and undo files beside the file.
const VIM: &str =
    "vim -Nu NONE -i NONE -es --cmd 'set directory=. backupdir=. undodir=. backup undofile swapfile'";

#[test]
fn vim_writes_keeps_backups_undoes_and_recovers() {
    let work = |both: &Beside<'_>| {
        both.run("seq 1000 > text; chmod 640 text; chown 12:34 text; ln text other-name; ln -s text soft");
        for (copy, change) in [("auto", "%s/7/seven/g"), ("no", "1,10d"), ("yes", "\\$put ='the end'")] {
            both.run(&format!(
                "cp text before; {VIM} -c 'set backupcopy={copy}' -c \"{change}\" -c wq text; ls -A; md5sum text text~; cmp text~ before"
            ));
        }
        // What was undone a session later is as it was before the last change.
        both.run(&format!(
            "{VIM} -c 'normal! u' -c 'w undone' -c 'qa!' text; cmp undone before; {VIM} -c 'g/9/d' -c wq soft; tail -1 text; cmp text other-name || echo 'its other name has the old text'"
        ));
        // Killed with a change that was never written: its swap file has it.
        both.run(&format!(
            "{VIM} -c \"normal! ggOnot written\" -c preserve -c \"call writefile([getpid()], 'pid')\" \
                -c \"call system('kill -9 ' . getpid())\" text || true
             test -f .text.swp; head -1 text; rm pid
             {VIM} -r -c 'w! recovered' -c 'qa!' text; head -1 recovered | grep -q '^not written$'; rm .text.swp; md5sum recovered"
        ));
        both.run("stat -c '%n %a %u %g %h' * .[!.]* | sort");
        both.same_trees(Times::Made);
    };
    beside("vim", &[], work, |both| {
        both.run(&format!("{VIM} -c 'normal! u' -c 'w back' -c 'qa!' text; md5sum back text"));
    });
}

#[test]
fn stream_editors_change_files_in_place() {
    let work = |both: &Beside<'_>| {
        both.run(
            "seq 20000 > n; chmod 604 n; sed -i 's/9/nine/' n; sed -i.bak '1,5000d' n; sed -i --follow-symlinks p n
             perl -pi.orig -e 's/^8/eight/' n; sort -R --random-source=/bin/sh n -o n; sort -u -o n n; md5sum n n.bak n.orig
             awk '{ print > (\"by-\" NR % 7) }' n; wc -l by-*; split -l 1000 -d n part-; cat part-* | cmp - n; rm part-*
             stat -c '%n %a %h %s' * | sort",
        );
        both.run(
            "mkdir a; seq 300 > a/x; seq 50 > a/gone; cp -a a b; sed -i '100,110d;200a new' b/x; rm b/gone; echo y > b/y
             touch -d 2020-02-02 a/* b/*; diff -ruN a b > change.patch || true
             cp -a a c; patch -s -b -p1 -d c < change.patch; find c | sort; rm c/*.orig; diff -r b c
             patch -s -R -p1 -d c < change.patch; diff -r a c; cp b/x b/x2; patch --dry-run -p1 -d b < change.patch || true
             printf '1,10d\\n$a\\nappended\\n.\\nw\\nq\\n' | ed -s a/x; head -1 a/x; tail -1 a/x
             truncate -s 100 a/x; truncate -s 1M a/hole; dd if=a/x of=a/hole bs=7 seek=1000 conv=notrunc status=none; md5sum a/*
             shred -n 1 -u c/x; tee t1 t2 < a/x | md5sum; cat t1 t2 >> t3; csplit -s -f cs t3 5; md5sum t3 cs*",
        );
        // Names that nobody has; made with modes that nobody else may use.
        both.run(
            "umask 022; f=$(mktemp -p . tmp.XXXXXX) d=$(mktemp -d -p . dir.XXXXXX); stat -c '%a %F' $f $d; mv $f file; mv -T $d dir
             mkfifo p; (cat p > through &); echo 'by the pipe' > p; sleep 0.2; cat through; rm p; set -C; if (echo > n) 2> /dev/null; then exit 1; fi",
        );
        both.same_trees(Times::Made);
    };
    beside("stream-editors", &[], work, |both| {
        both.run("sed -i '$d' n; sort -c n; md5sum n");
    });
}

#[test]
fn searches_sizes_locks_and_tails() {
    let work = |both: &Beside<'_>| {
        both.run(
            "mkdir -p d/e/f; for n in 1 2 3 4 5; do echo $n > d/$n; done; seq 5000 > d/e/many; ln d/1 d/e/one; ln -s none d/broken
             touch -d '2020-01-01 00:00:00.000000001' d/1; touch -d '2020-01-01 00:00:00.000000002' d/2
             touch -d '2020-01-01 00:00:00' d/3; touch -d 1960-01-01 d/4; touch -d 2200-01-01 d/5; chmod 1755 d/e; truncate -s 3G d/huge
             touch -hd 2010-01-01 d/broken; touch -d 2011-01-01 d/huge d/e/many d/e/f d/e
             find d -newer d/3 | sort; echo; find d -newer d/1 ! -newer d/2; find d -newermt '2100-01-01'; find d ! -newermt 1970-01-01
             find d -links +1 -type f | sort; find d -samefile d/1 | sort; find d -xtype l; find d -perm -1000; find d -empty | sort
             find d -size +1G; find d -inum $(stat -c %i d/e/many); find d -depth -printf '%p %y %s %m %n %l\\n' | sort; find d -mindepth 2 -delete
             find d | sort; ls -lA --time-style=+%s.%N d | awk 'NR > 1 && !/ e$/'; ls -1tr d | grep -v e; ls -i d | wc -l",
        );
        // Sizes as they are shown: what files say they are; what they take on the disk, which ext4 counts in blocks.
        both.run(
            "rm -f d/huge; head -c 100000 /dev/zero | tr '\\0' x > d/x; truncate -s 10M d/hole
             find d -type f | sort | xargs du -b --apparent-size; du -s --inodes d; du -ks d/x d/hole; df --output=target . | tail -1",
        );
        let (_, free) = both.each("df --output=fstype,avail,iavail . | tail -1");
        assert!(free.starts_with("fuse.cwdfs ") && !free.contains(" 0"), "{free}");

        // A counter under a lock; a lock that is held, shared, and left by one that was killed.
        let turns = if full() { 200 } else { 25 };
        both.run(&format!(
            "echo 0 > counter; turn() {{ for n in $(seq {turns}); do flock lock sh -c 'echo $(($(cat counter) + 1)) > new; cat new > counter'; done; }}
             turn & turn & turn & wait; cat counter
             flock lock sh -c 'flock -n lock true || echo held; flock -w 0.1 -s lock true || echo held still'
             flock -s lock flock -n -s lock echo shared; flock -s lock flock -n lock true || echo 'not for one alone'
             exec 7> lock; flock 7; sh -c 'flock -n lock true || echo held by a descriptor'; exec 7>&-; flock -n lock echo free
             flock lock sleep 1000 & sleep 0.5; kill -9 $! $(pgrep -P $!); wait || true; flock -w 20 lock echo 'free again'"
        ));
        // A log that is written, rotated and followed by name.
        both.run(
            "echo 0 > log; tail -n +1 -s 0.1 -F log > seen 2> /dev/null & sleep 1; until grep -q 0 seen; do sleep 0.1; done
             for n in $(seq 20); do echo line $n >> log; done; until grep -q 'line 20' seen; do sleep 0.1; done
             mv log log.1; echo rotated > log; until grep -q rotated seen; do sleep 0.1; done; kill $!; wait || true; cat seen",
        );
        both.run("rm -rf d/hole; chmod -R u=rwX,go= d; chown -Rh 5:6 d; ls -ln d | awk 'NR > 1 { print $1, $3, $4, $5 }'");
        both.same_trees(Times::Made);
    };
    beside("searches", &[], work, |both| {
        both.run("find d -newer d/3 ! -name e ! -name x ! -path d | sort; ls -1tr d | grep -v e; flock -n lock cat counter");
    });
}

#[test]
fn make_decides_by_nanoseconds() {
    // One rule that tells, and a program of three sources with its headers.
    let makefile = r#"
        printf 'told: source\n\t@echo made; cp source told\n' > rule.mk
        printf 'O = main.o one.o two.o\nprog: $(O)\n\tcc -o $@ $(O)\n%%.o: %%.c all.h\n\tcc -c -o $@ $<\n' > Makefile
        echo 'int one(void); int two(void);' > all.h
        for n in one two; do printf '#include "all.h"\nint %s(void) { return 20; }\n' $n > $n.c; done
        printf '#include <stdio.h>\n#include "all.h"\nint main(void) { printf("%%d\\n", one() + two()); }\n' > main.c"#;
    let work = |both: &Beside<'_>| {
        both.run(makefile);
        let told = both.run(
            "at() { touch -d \"2024-01-01 00:00:00.$2\" $1; }; echo > source; echo > told
             at source 000000001; at told 000000002; make -q -f rule.mk; echo fresh
             at told 000000000; make -q -f rule.mk || echo stale; at told 000000001; make -q -f rule.mk; echo 'the same'
             at source 999999999; at told 999999998; make -q -f rule.mk || echo stale; at told 123456789; at source 123456788; make -f rule.mk",
        );
        assert_eq!(told, "fresh\nstale\nthe same\nstale\nmake: 'told' is up to date.\n");
        let built = both.run("make; ./prog; make; make -q");
        assert!(built.contains("40\n") && built.ends_with("make: 'prog' is up to date.\n"), "{built}");
        // Written right after the build, in the same instant or nearly, and seen as newer.
        let again = both.run("sed -i s/20/22/ two.c; make; ./prog; touch all.h; make -j 4 | sort; make -q");
        assert!(again.starts_with("cc -c -o two.o two.c\n") && again.contains("\n42\n"), "{again}");
        both.run("for n in $(seq 20); do echo \"/* $n */\" >> one.c; make -s; make -q; done; ./prog");
        both.same_trees(Times::Made);
    };
    beside("make", &[], work, |both| {
        assert_eq!(
            both.run("make -q; make -q -f rule.mk; ./prog; make"),
            "42\nmake: 'prog' is up to date.\n"
        );
        assert!(both.run("touch one.c && make").starts_with("cc -c -o one.o one.c\n"));
    });
}
