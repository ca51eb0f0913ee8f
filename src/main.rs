//! The binary: everything is in the library.

fn main() -> std::process::ExitCode {
    cwdfs::cli::run(std::env::args_os())
}
