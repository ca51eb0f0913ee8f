# What git says of every repository of the story: nothing is damaged, nothing is changed, and what is where.
# First without a look at the files: the index knows inode numbers and times, and they are still the same.
for repository in project project/lib linked cloned cloned/lib library kept-tree; do
  git -C "$repository" diff-files --quiet || { echo "$repository: the index does not know its files"; exit 1; }
done
for repository in project project/lib linked cloned cloned/lib library kept-tree bare.git; do
  echo "== $repository"
  cd "$repository"
  git fsck --full --strict --no-progress 2>&1
  git for-each-ref
  git log --all --date-order --format='%H %P %ad %cd %s'
  git cat-file --batch-all-objects --batch-check
  if [[ $repository != bare.git ]]; then git status --porcelain --branch; git ls-files -s; fi
  if [[ $repository == project ]]; then
    git stash list --format='%H %gd %gs'
    git submodule status
    git worktree list --porcelain | grep -v ^worktree
  fi
  cd "$OLDPWD"
done
