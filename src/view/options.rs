//! How the view of a session behaves.

use super::names::place_of;
use ignore::gitignore::Gitignore;
use std::path::Path;
use std::time::Duration;

/// How the view of a session behaves; built by the command line.
#[derive(Debug, Clone)]
pub struct ViewOptions {
    /// Whether anything is published.
    pub publish: bool,
    /// Paths that stay out of the view: never published, and their objects left alone. What an outside
    /// client puts there is imported all the same.
    pub exclude: Gitignore,
    /// How long after a commit its changes are published, so that more of them are one request.
    pub delay: Duration,
    /// Whether an object says its `Content-Type`, by the extension of its name.
    pub content_types: bool,
    /// The least time between two imports; without outside changes it grows up to [`ViewOptions::MAX_IDLE`].
    pub import_interval: Duration,
    /// How long a first mount waits for the headers of what it imports; the rest is read while it is in use.
    pub headers_wait: Duration,
    /// Objects worked on at once.
    pub concurrency: usize,
    /// Whether the store's DELETE takes `If-Match`, as its probe found.
    pub delete_conditions: bool,
}

impl ViewOptions {
    /// The longest time between two imports of a view that nobody else changes.
    pub const MAX_IDLE: Duration = Duration::from_secs(300);

    /// Whether the object `key` is ours to write and delete.
    pub(super) fn publishes(&self, key: &str) -> bool {
        let Ok(place) = place_of(key) else { return false };
        self.publish && !self.excludes(place.path, place.directory)
    }

    /// Whether nothing is kept out of the view.
    pub(super) fn publishes_all(&self) -> bool {
        self.publish && self.exclude.is_empty()
    }

    /// The `Content-Type` that the object of a regular file says.
    pub(super) fn content_type(&self, key: &str) -> Option<String> {
        let guess = || mime_guess::from_path(key).first_raw().map(str::to_owned);
        self.content_types.then(guess).flatten()
    }

    fn excludes(&self, path: &str, directory: bool) -> bool {
        let path = Path::new(path);
        !self.exclude.is_empty() && self.exclude.matched_path_or_any_parents(path, directory).is_ignore()
    }
}

impl Default for ViewOptions {
    fn default() -> Self {
        ViewOptions {
            publish: true,
            exclude: Gitignore::empty(),
            delay: Duration::from_secs(1),
            content_types: false,
            import_interval: Duration::from_secs(10),
            headers_wait: Duration::from_secs(20),
            concurrency: 16,
            delete_conditions: true,
        }
    }
}
