"""Runs a command in a session on Modal: sandbox.py STORE COMMAND [ARGUMENT...]

Beside this file: cwdfs, the program; cwdfs-entrypoint.
"""

import sys

import modal

image = (
    modal.Image.debian_slim()
    .apt_install("ca-certificates", "git")
    .add_local_file("cwdfs", "/usr/local/bin/cwdfs", copy=True)
    .add_local_file("cwdfs-entrypoint", "/usr/local/bin/cwdfs-entrypoint", copy=True)
    .run_commands("chmod 755 /usr/local/bin/cwdfs /usr/local/bin/cwdfs-entrypoint")
)


def main(store: str, *command: str) -> int:
    session = modal.Secret.from_dict({"CWDFS_STORE": store})
    sandbox = modal.Sandbox.create(
        "cwdfs-entrypoint",
        *command,
        app=modal.App.lookup("cwdfs", create_if_missing=True),
        image=image,
        secrets=[session, modal.Secret.from_name("cwdfs-s3")],
        timeout=3600,
        runtime="vm",
    )
    for line in sandbox.stdout:
        print(line, end="")
    sandbox.wait()
    print(sandbox.stderr.read(), file=sys.stderr, end="")
    return sandbox.returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
