//! Programs that copy, move and pack whole trees, with everything a file can have: the copy has to be the
//! original in every respect, and rsync has to find nothing to do.

use super::beside::{Beside, Times, beside};
use crate::support::{Tree, full, sh};
use crate::work;
use std::path::Path;

/// A tree with one of everything, ACLs and many small files, on the local disk; `$SOURCE` for both.
fn source(both: &Beside<'_>) {
    let source = both.world().local("source");
    work::one_of_everything(&source);
    let files = if full() { 5000 } else { 30 };
    sh(
        &source,
        &format!(
            "setfacl -m u:1234:rwx,g:5678:r plain; setfacl -d -m g:5678:rx sub; setfacl -m u:0:r sub
             setfattr -n trusted.of-root -v 0x00ff sub/big; setfattr -h -n trusted.link -v l dangling
             mkdir many; for n in $(seq {files}); do echo $n > many/$n; done; ln many/1 sub/one
             cp -a --sparse=always sparse with-holes; chown -h 12:34 sub/to-plain
             # rsync takes times within a second for equal where there is no content: none may be of this second.
             find . -newermt '2 minutes ago' -exec touch -hd '2020-02-02 02:02:02.123456789' {{}} +
             touch -hd '1999-12-31 23:59:59.987654321' dangling; touch -d '2100-01-01' many"
        ),
    );
    both.set("SOURCE", source);
}

/// Panics unless `copy` in both trees is the original in everything that a copy can keep.
#[track_caller]
fn copied(both: &Beside<'_>, copy: &str) {
    let tree = |root: &Path| Tree::of(root).elsewhere();
    let source = tree(&both.world().local("source"));
    for root in [both.local(), both.mounted()] {
        source.assert_same(&tree(&root.join(copy)), &format!("the original and {copy}"));
    }
}

/// rsync with everything, devices and sockets included.
const RSYNC: &str = "rsync -aHAXS --numeric-ids --delete";

#[test]
fn rsync_finds_no_difference_either_way() {
    let no_difference = |both: &Beside<'_>, from: &str, to: &str| {
        let said = both.run(&format!("{RSYNC} --checksum --dry-run --itemize-changes {from} {to}"));
        assert_eq!(said, "", "rsync finds {from} and {to} different");
    };
    let work = |both: &Beside<'_>| {
        source(both);
        both.run(&format!("{RSYNC} $SOURCE/ copied/; rm -rf $HOME/back; {RSYNC} copied/ $HOME/back/"));
        no_difference(both, "$SOURCE/", "copied/");
        no_difference(both, "copied/", "$HOME/back/");
        no_difference(both, "$HOME/back/", "$SOURCE/");
        copied(both, "copied");

        // Changes go both ways, in place and by replacing; unchanged files of a snapshot are links.
        both.run(&format!(
            "rm -rf $HOME/work; cp -a copied $HOME/work; cd $HOME/work
             echo more >> many/3; rm -r many/4 sub/to-plain; mv sub/deep moved; chmod 600 plain
             printf changed | dd of=sub/big bs=1 seek=2000000 conv=notrunc status=none; fallocate -p -o 0 -l 1M sub/big
             touch -d 2001-02-03 many/3 sub/big moved sub many .
             cd - > /dev/null
             {RSYNC} --link-dest=../copied $HOME/work/ snapshot/; {RSYNC} --inplace --no-whole-file $HOME/work/ copied/
             stat -c %h many snapshot/many/9 copied/many/9 2> /dev/null || true"
        ));
        no_difference(both, "$HOME/work/", "copied/");
        no_difference(both, "copied/", "snapshot/");
        both.same_trees(Times::OfAll);
    };
    beside("rsync", &[], work, |both| {
        both.set("SOURCE", both.world().local("source"));
        no_difference(both, "copied/", "snapshot/");
        no_difference(both, "$HOME/work/", "copied/");
        both.run(&format!("rm -r snapshot; {RSYNC} $SOURCE/ copied/"));
        copied(both, "copied");
    });
}

/// tar with everything there is.
const TAR: &str = "tar --xattrs --xattrs-include=* --acls --sparse --numeric-owner --sort=name";

#[test]
fn tar_packs_and_unpacks_everything() {
    let work = |both: &Beside<'_>| {
        source(both);
        // The one thing that tar leaves out.
        both.run("rm -f $SOURCE/s; touch -d 2002-02-02 $SOURCE");
        both.run(&format!(
            "mkdir copied out; {TAR} -cf out/1.tar -C $SOURCE .; {TAR} -xpf out/1.tar -C copied"
        ));
        copied(both, "copied");
        // The same archive from the copy; its own comparison finds nothing; compressed and through a pipe as well.
        both.run(&format!(
            "{TAR} -cf out/2.tar -C copied .; {TAR} --compare -f out/1.tar -C copied
             {TAR} -czf out/3.tgz -C copied .; mkdir again; {TAR} -cf - -C copied . | {TAR} -xpf - -C again
             {TAR} --compare -f out/3.tgz -C again 
             {TAR} -cf out/4.tar -C copied ./sub; {TAR} -rf out/4.tar -C copied ./many/7; tar -tf out/4.tar; touch -d 2003-03-03 out/* out"
        ));
        copied(both, "again");
        both.same_trees(Times::OfAll);
    };
    beside("tar", &[], work, |both| {
        both.set("SOURCE", both.world().local("source"));
        both.run(&format!("{TAR} --compare -f out/1.tar -C copied; {TAR} -cf out/5.tar -C again .; {TAR} --compare -f out/5.tar -C copied"));
        copied(both, "copied");
    });
}

#[test]
fn cp_and_mv_keep_everything() {
    let work = |both: &Beside<'_>| {
        source(both);
        both.run(
            "cp -a --reflink=auto $SOURCE copied; cp -a --reflink=auto copied again; cp -al again linked",
        );
        copied(both, "copied");
        // Across directories, within the tree, and to another file system and back.
        both.run(
            "rm -rf linked; mkdir -p a/b c; mv again a/b/inner; mv a/b c; mv c/b/inner moved
             mv moved/many/1 moved/one; mv moved/one moved/many/1; touch -r copied/many moved/many
             touch -r copied moved; rm -rf $HOME/out; mv moved $HOME/out; mv $HOME/out moved",
        );
        copied(both, "moved");
        both.run("rm -r a c");
        both.run(
            "cp --sparse=always copied/sparse whole; cp --sparse=never copied/sub/big whole2; cmp copied/sub/big whole2
             cmp copied/sparse whole; if cp --reflink=always copied/sub/big never 2> $HOME/said; then exit 1; fi; rm -f never
             mv --no-clobber whole whole2 2> /dev/null || true; mv -f whole2 whole; mv --backup=numbered copied/plain whole
             cp -p 'whole.~1~' copied/plain; rm -r copied/many; cp -rp moved/many copied/; cp -u moved/plain copied/
             install -D -p -m 0751 -o 12 -g 34 moved/script bin/deep/script; install -d -m 1777 bin/t
             ln moved/script bin/hard; ln -sr moved/script bin/soft; cp -L bin/soft bin/copy; link bin/hard bin/h2
             unlink bin/hard; readlink bin/soft; stat -c '%a %u %g %h %s' bin/* bin/deep/script
             touch -r moved/script copied/plain bin/copy bin/deep bin copied; touch -hr moved/script bin/soft bin/t whole*",
        );
        both.same_trees(Times::OfAll);
    };
    beside("cp", &[], work, |both| {
        both.set("SOURCE", both.world().local("source"));
        both.run("rm -r bin; touch -r $SOURCE moved");
        copied(both, "moved");
        both.run("mv moved/sub top; mv top moved/sub; cp -a moved again; touch -r $SOURCE moved again");
        copied(both, "again");
    });
}

#[test]
fn zip_and_unzip_keep_what_they_can() {
    let work = |both: &Beside<'_>| {
        both.run(
            "mkdir -p in/deep; cd in; seq 100000 > numbers; ln -s numbers deep/link; : > empty; chmod 640 empty
             for n in $(seq 100); do echo $n > deep/$n; done; printf '#!/bin/sh\\necho ran\\n' > run; chmod 755 run
             echo x > 'ü ☃'; find . -exec touch -hd '2020-05-06 07:08:10' {} +; cd ..
             find in | LC_ALL=C sort | zip -qyX out.zip -@; unzip -tq out.zip; unzip -q out.zip -d out; diff -r --no-dereference in out/in; out/in/run
             zipinfo -1 out.zip | sort; zip -qd out.zip 'in/deep/*'; unzip -tq out.zip; unzip -p out.zip in/numbers | tail -1
             gzip -k in/numbers; gzip -t in/numbers.gz; xz -k in/numbers; xz -t in/numbers.xz; touch -d 2020-05-06 in out out.zip in/numbers.*; touch -hd 2020-05-06 out/in/deep/link",
        );
        both.same_trees(Times::OfAll);
    };
    beside("zip", &[], work, |both| {
        both.run("unzip -tq out.zip; diff -r --no-dereference in/deep out/in/deep; zcat in/numbers.gz | cmp - in/numbers");
    });
}
