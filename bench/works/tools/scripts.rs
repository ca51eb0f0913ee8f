//! What the tools are told.

use super::Story;

const NO_VIEW: &[&str] = &["--no-publish"];

/// git.
pub const GIT: Story = Story {
    steps: &[
        ("git clone", r#"git clone -q "file://$REPOSITORY" work"#),
        (
            "git commit",
            r#"cd work; git config user.name bench; git config user.email bench@localhost
            for n in 1 2 3 4 5; do echo "more $n" >> "d$n/file$n.txt" || echo "more" > "new$n.txt"; done
            git add -A; git commit -q -m more"#,
        ),
        ("git status", r#"cd work; for n in 1 2 3 4 5; do git status --porcelain; done"#),
    ],
    options: NO_VIEW,
    registry: false,
};

const NPM_STEPS: &[(&str, &str)] = &[(
    "npm ci",
    r#"cp -r "$FIXTURES/node/project/." .
    node "$TOOLS/node/node_modules/npm/bin/npm-cli.js" ci --cache "$HOME/npm""#,
)];

/// npm, its cache outside.
pub const NPM: Story = Story { steps: NPM_STEPS, options: NO_VIEW, registry: true };

/// npm, with the view.
pub const NPM_VIEW: Story = Story { steps: NPM_STEPS, options: &[], registry: true };

/// pnpm, its store inside.
pub const PNPM: Story = Story {
    steps: &[(
        "pnpm install",
        r#"cp -r "$FIXTURES/node/project/." .; rm package-lock.json
        node -e 'const p = JSON.parse(fs.readFileSync("package.json")); delete p.devDependencies;
            fs.writeFileSync("package.json", JSON.stringify(p, null, 2))'
        node "$TOOLS/node/node_modules/pnpm/bin/pnpm.cjs" install --store-dir .store"#,
    )],
    options: NO_VIEW,
    registry: true,
};

/// uv, its cache inside.
pub const UV: Story = Story {
    steps: &[(
        "uv pip install",
        r#"export UV_CACHE_DIR=.uv UV_NO_CONFIG=1 UV_PYTHON_DOWNLOADS=never VIRTUAL_ENV=.venv
        uv="$TOOLS/python/bin/uv"
        "$uv" -q venv --python "$TOOLS/python/bin/python" .venv
        "$uv" -q pip install --offline --no-index --find-links "$TOOLS/wheels" --link-mode hardlink \
            -r "$FIXTURES/python/requirements.txt""#,
    )],
    options: NO_VIEW,
    registry: false,
};

/// cargo, its target directory inside.
pub const CARGO: Story = Story {
    steps: &[("cargo build", r#"cp -r "$FIXTURES/cargo/." .; cargo build -q --locked"#)],
    options: NO_VIEW,
    registry: false,
};

/// A mix of what agents do; each turn ends with the transcript synced.
pub const AGENT: Story = Story {
    steps: &[
        (
            "checkout",
            r#"git clone -q "file://$REPOSITORY" work; cd work
            git config user.name agent; git config user.email agent@localhost"#,
        ),
        (
            "30 turns",
            r#"cd work
            for turn in $(seq 30); do
              grep -rl "$((turn * 7))" . --include='*.txt' | head -n 5 | xargs -r wc -l > /dev/null
              cat "d$((turn % 12))"/*.txt > /dev/null
              sed -i "1s/.*/edited in turn $turn/" "$(ls d$((turn % 12))/*.txt | head -n 1)"
              printf 'result of turn %s\n' "$turn" > "d$((turn % 12))/new$turn.md"
              sh -c 'ls -R . | sort | md5sum' > ../test-output
              git status --porcelain > /dev/null
              if ((turn % 5 == 0)); then git add -A; git commit -q -m "turn $turn"; fi
              printf '{"turn":%s,"said":"%s"}\n' "$turn" "$(head -c 900 "d$((turn % 12))/new$turn.md" | base64 -w0)" \
                >> ../transcript.jsonl
              sync -d ../transcript.jsonl
              sleep 0.05
            done"#,
        ),
    ],
    options: NO_VIEW,
    registry: false,
};
