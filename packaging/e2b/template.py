"""Builds the E2B template `cwdfs`. Beside this file: cwdfs, the program; cwdfs-entrypoint."""

from e2b import Template, default_build_logger

template = (
    Template()
    .from_debian_image("bookworm")
    .apt_install(["ca-certificates", "git", "util-linux"])
    .copy("cwdfs", "/usr/local/bin/cwdfs", mode=0o755, user="root")
    .copy("cwdfs-entrypoint", "/usr/local/bin/cwdfs-entrypoint", mode=0o755, user="root")
)

if __name__ == "__main__":
    Template.build(template, "cwdfs", cpu_count=2, memory_mb=2048, on_build_logs=default_build_logger())
