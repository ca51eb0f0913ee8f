# What people do with git, in the directory it is run in, with dates of its own: every commit has the same id
# wherever and whenever it is made. FSYNC is the value of core.fsync.
export GIT_CONFIG_COUNT=5
export GIT_CONFIG_KEY_2=core.fsync GIT_CONFIG_VALUE_2="$FSYNC"
export GIT_CONFIG_KEY_3=protocol.file.allow GIT_CONFIG_VALUE_3=always
export GIT_CONFIG_KEY_4=advice.detachedHead GIT_CONFIG_VALUE_4=false

now=1700000000
tick() { now=$((now + 60)); export GIT_AUTHOR_DATE="$now +0000" GIT_COMMITTER_DATE="$now +0000"; }
commit() { tick; git add -A; git commit -q -m "$1"; }

# A library that becomes a submodule.
git init -q -b main library
(cd library && seq 50 > numbers && commit 'a library')

git init -q -b main project
cd project
for i in $(seq 24); do mkdir -p "src/$((i % 4))"; seq $((i * 20)) > "src/$((i % 4))/$i"; done
printf '#!/bin/sh\n' > run && chmod +x run && ln -s src/1 link && : > empty
seq 60000 | gzip -n > 'bin ünï'
printf 'x' > $'new\nline'
commit start

# branch, merge without and with a conflict
git checkout -q -b feature && echo feature >> src/1/1 && commit feature
git checkout -q main && echo main >> src/2/2 && commit 'on main'
tick && git merge -q --no-ff -m 'merged feature' feature
git checkout -q -b left && sed -i '1s/.*/left/' src/3/3 && commit left
git checkout -q main && sed -i '1s/.*/right/' src/3/3 && commit right
tick && if git merge -q -m 'merged left' left > /dev/null; then echo 'no conflict?'; exit 1; fi
test "$(git diff --name-only --diff-filter=U)" = src/3/3
sed -i '/^[<=>]\{7\}/d' src/3/3 && commit 'merged left'

# rebase: plain, and with a fixup that moves to its commit
git checkout -q -b topic HEAD~2
for i in 1 2 3 4 5; do echo "$i" > "topic-$i" && commit "topic $i"; done
tick && git rebase -q main
echo fixed >> topic-2 && git add -A && tick && git commit -q --fixup HEAD~3
tick && GIT_SEQUENCE_EDITOR=true git rebase -q -i --autosquash main
test "$(git rev-list --count main..topic)" = 5
git checkout -q main && tick && git cherry-pick topic~1 > /dev/null
git mv src/0 moved && git rm -q -r src/1 && commit 'moved and removed'
tick && git revert --no-edit HEAD~1 > /dev/null
tick && git tag -a -m 'a tag' v1

# stash: one that comes back, one that stays
echo changed >> run && echo new > untracked && tick && git stash push -q -u -m first
test -z "$(git status --porcelain)"
git stash pop -q && test "$(git status --porcelain | wc -l)" = 2 && commit 'from the stash'
echo kept >> run && tick && git stash push -q -m second

# worktree: one that is removed again, one that stays
git worktree add -q -b in-a-tree ../tree && (cd ../tree && echo tree > tree && commit 'in a tree')
tick && git merge -q -m 'merged the tree' in-a-tree && git worktree remove ../tree
git worktree add -q --detach ../kept-tree v1

# submodule, and a later state of it
git submodule --quiet add ../library lib && commit 'a submodule'
(cd ../library && seq 60 > numbers && commit 'more numbers')
git submodule --quiet update --remote && commit 'a newer submodule'

# bisect finds the commit that broke it
for i in $(seq 16); do echo "$i" > step && if ((i == 11)); then echo broken > bug; fi && commit "step $i"; done
git bisect start HEAD HEAD~16 > /dev/null && git bisect run test ! -e bug > ../bisected
git log -1 --format='bisect blames %s' refs/bisect/bad && git bisect reset 2> /dev/null
cd ..

# clone: with hard links, over the protocol, bare, with submodules; push and fetch between them
git clone -q project linked
git clone -q --no-local --recurse-submodules "file://$PWD/project" cloned
git clone -q --bare project bare.git
git -C cloned remote add bare ../bare.git
(cd cloned && git checkout -q -b pushed && echo pushed > pushed && commit pushed && git push -q bare pushed)
git -C project fetch -q ../bare.git pushed:pushed

# What is reachable no more goes, the rest is packed.
cd project
git branch -q -D left && git checkout -q -b amended && echo a > a && commit a && tick && git commit -q --amend -m b
git checkout -q main && git branch -q -D amended
git reflog expire --expire=now --expire-unreachable=now HEAD $(git for-each-ref --format='%(refname)' refs/heads)
git gc -q --prune=now
test "$(git count-objects)" = '0 objects, 0 kilobytes'
echo late > late && commit late && git repack -q -a -d && git prune-packed
test "$(ls .git/objects/pack/*.pack | wc -l)" = 1
