//! An outside client of the store, which knows nothing of sessions.

use cwdfs::store::{Condition, DirStore, ETag, Listed, Object, ObjectStore, PutOptions};
use std::collections::BTreeMap;
use std::path::Path;
use tokio::runtime::Runtime;

/// A client of its own.
pub struct Client {
    store: DirStore,
    runtime: Runtime,
}

impl Client {
    /// Of the store in a directory.
    pub fn new(dir: &Path) -> Client {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        Client { store: DirStore::new(dir), runtime: runtime.expect("a runtime") }
    }

    /// Writes an object, whatever was there.
    pub fn put(&self, key: &str, bytes: &[u8]) -> ETag {
        self.put_with(key, bytes, &[])
    }

    /// Writes an object with user metadata.
    pub fn put_with(&self, key: &str, bytes: &[u8], metadata: &[(&str, &str)]) -> ETag {
        let metadata = metadata.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let options = PutOptions { metadata, ..PutOptions::default() };
        let put = self.store.put(key, bytes.to_vec().into(), &options);
        self.runtime.block_on(put).unwrap_or_else(|error| panic!("outside put {key}: {error}"))
    }

    /// Deletes an object.
    pub fn delete(&self, key: &str) {
        let deleted = self.runtime.block_on(self.store.delete(key, &Condition::None));
        deleted.unwrap_or_else(|error| panic!("outside delete {key}: {error}"));
    }

    /// An object, if there is one.
    pub fn get(&self, key: &str) -> Option<Object> {
        match self.runtime.block_on(self.store.get(key, None, None)) {
            Ok(object) => Some(object),
            Err(error) if error.is_not_found() => None,
            Err(error) => panic!("outside get {key}: {error}"),
        }
    }

    /// An object's bytes as text.
    #[track_caller]
    pub fn text(&self, key: &str) -> String {
        let object = self.get(key).unwrap_or_else(|| panic!("no object {key} in {:?}", self.keys()));
        String::from_utf8_lossy(&object.body).into_owned()
    }

    /// Every object below `prefix`.
    pub fn list(&self, prefix: &str) -> Vec<Listed> {
        let mut all: Vec<Listed> = Vec::new();
        loop {
            let after = all.last().map(|last| last.key.clone());
            let page = self.runtime.block_on(self.store.list(prefix, after.as_deref(), 1000));
            let page = page.expect("outside list");
            all.extend(page.objects);
            if !page.more {
                return all;
            }
        }
    }

    /// The keys of the view.
    pub fn keys(&self) -> Vec<String> {
        self.list("").into_iter().map(|object| object.key).filter(|key| !key.starts_with(".cwdfs/")).collect()
    }

    /// The objects of the view.
    pub fn objects(&self) -> BTreeMap<String, Object> {
        let there = self.keys().into_iter().filter_map(|key| self.get(&key).map(|object| (key, object)));
        there.collect()
    }

    /// Deletes all below a prefix.
    pub fn delete_all(&self, prefix: &str) {
        for object in self.list(prefix) {
            self.delete(&object.key);
        }
    }
}
