"""Makes the Daytona snapshot `cwdfs`. Beside this file: cwdfs, the program; cwdfs-entrypoint."""

from daytona import CreateSnapshotParams, Daytona, Image, Resources

image = (
    Image.base("debian:bookworm-slim")
    .run_commands(
        "apt-get update && apt-get install -y --no-install-recommends ca-certificates git sudo"
        " && rm -rf /var/lib/apt/lists/*",
        "mkdir -p /work && chmod 000 /work",
    )
    .add_local_file("cwdfs", "/usr/local/bin/cwdfs")
    .add_local_file("cwdfs-entrypoint", "/usr/local/bin/cwdfs-entrypoint")
    .run_commands("chmod 755 /usr/local/bin/cwdfs /usr/local/bin/cwdfs-entrypoint")
)

if __name__ == "__main__":
    snapshot = CreateSnapshotParams(name="cwdfs", image=image, resources=Resources(cpu=2, memory=4, disk=10))
    Daytona().snapshot.create(snapshot, on_logs=print)
