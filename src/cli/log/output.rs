//! Where lines go.

use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;
use tracing_subscriber::fmt::MakeWriter;

/// Where lines go, each with one write.
pub(super) enum Output {
    /// Nobody reads them.
    Nowhere,
    /// Standard error.
    Stderr,
    /// A file that is appended to.
    File(File),
}

impl Output {
    /// Writes a line. A log that cannot be written has nobody left to be told.
    pub fn line(&self, line: &str) {
        let _ = (&*self).write_all(line.as_bytes());
    }
}

impl Write for &Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Output::Nowhere => Ok(bytes.len()),
            // Nothing is what a line that is held back leaves.
            _ if bytes.is_empty() => Ok(0),
            Output::Stderr => io::stderr().write(bytes),
            Output::File(file) => (&mut &*file).write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The output, for the subscriber.
pub(super) struct Handle(pub Arc<Output>);

impl<'a> MakeWriter<'a> for Handle {
    type Writer = Lines<'a>;

    fn make_writer(&'a self) -> Lines<'a> {
        Lines(&self.0)
    }
}

/// A line on its way.
pub(super) struct Lines<'a>(&'a Output);

impl Write for Lines<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&mut &*self.0).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
