//! Nothing is written to a store that is not known to keep conditions: on one that does not, two writers
//! would both believe to be alone.
//!
//! Reads pass at once, so that finding out runs beside them. What a probe found is noted in the session, so
//! that the next mount only reads it; the note names the server and bucket, so that a copied session is
//! tried anew. A store that failed the probe gets no note: it is tried again.

use super::probe::probe;
use super::{
    Capabilities, Condition, CopyOptions, ETag, Kind, ListPage, Object, ObjectMeta, ObjectStore, Part,
    PutOptions, Result, StoreError, UploadId,
};
use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::sync::Arc;
use tokio::sync::OnceCell;

/// Where a session notes what its store was seen to do.
pub const NOTE: &str = ".cwdfs/store";

/// The format of the note.
const FORMAT: u32 = 1;

/// The note: JSON. Another format, or another place, is as good as none.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Note {
    format: u32,
    place: String,
    found: Capabilities,
}

/// A store whose writes wait until it is known to keep conditions.
pub struct Gate {
    inner: Arc<dyn ObjectStore>,
    place: String,
    noted: OnceCell<Option<Capabilities>>,
    known: OnceCell<Capabilities>,
}

impl Gate {
    /// Guards `inner`; `place` names its server and bucket.
    pub fn new(inner: Arc<dyn ObjectStore>, place: String) -> Arc<Self> {
        Arc::new(Gate { inner, place, noted: OnceCell::new(), known: OnceCell::new() })
    }

    /// Begins to read the note, so that the first write need not wait for it.
    pub fn look_ahead(self: &Arc<Self>) {
        let gate = Arc::clone(self);
        // A failure is met again, and told, by whoever needs the answer.
        drop(tokio::spawn(async move { gate.noted().await.is_ok() }));
    }

    /// What the store keeps, found out if need be. [`Kind::Unsupported`] where it cannot fence.
    pub async fn capabilities(&self) -> Result<Capabilities> {
        self.known.get_or_try_init(|| self.find_out()).await.copied()
    }

    async fn find_out(&self) -> Result<Capabilities> {
        if let Some(found) = self.noted().await? {
            return Ok(found);
        }
        let found = probe(&self.inner).await?;
        if !found.conditional_put {
            let what = "this store does not keep conditional writes (If-None-Match, If-Match), so that two \
                        writers could not be told apart; mount with --read-only, or with --fencing none and \
                        see to it that there is only one writer";
            return Err(StoreError::new(Kind::Unsupported, "write", &self.inner.describe(), what));
        }
        self.write_note(found);
        Ok(found)
    }

    async fn noted(&self) -> Result<Option<Capabilities>> {
        self.noted.get_or_try_init(|| self.read_note()).await.copied()
    }

    async fn read_note(&self) -> Result<Option<Capabilities>> {
        match self.inner.get(NOTE, None, None).await {
            Ok(object) => {
                let note: Option<Note> = serde_json::from_slice(&object.body).ok();
                let ours = note.filter(|note| note.format == FORMAT && note.place == self.place);
                Ok(ours.map(|note| note.found))
            }
            // Some policies say so of what is not there.
            Err(error) if error.is_not_found() || error.kind == Kind::AccessDenied => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Nobody waits for the note: without it the next mount tries again.
    fn write_note(&self, found: Capabilities) {
        let note = Note { format: FORMAT, place: self.place.clone(), found };
        let store = Arc::clone(&self.inner);
        tokio::spawn(async move {
            let written = match serde_json::to_vec(&note) {
                Ok(body) => {
                    store.put(NOTE, body.into(), &PutOptions::default()).await.map_err(|e| e.to_string())
                }
                Err(error) => Err(error.to_string()),
            };
            if let Err(error) = written {
                tracing::warn!(
                    "what the store keeps could not be noted, the next mount tries again: {error}"
                );
            }
        });
    }
}

#[async_trait]
impl ObjectStore for Gate {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    async fn get(&self, key: &str, range: Option<Range<u64>>, if_match: Option<&ETag>) -> Result<Object> {
        self.inner.get(key, range, if_match).await
    }

    async fn head(&self, key: &str) -> Result<ObjectMeta> {
        self.inner.head(key).await
    }

    async fn put(&self, key: &str, body: Bytes, options: &PutOptions) -> Result<ETag> {
        self.capabilities().await?;
        self.inner.put(key, body, options).await
    }

    async fn create_multipart(&self, key: &str, options: &PutOptions) -> Result<UploadId> {
        self.capabilities().await?;
        self.inner.create_multipart(key, options).await
    }

    async fn upload_part(&self, key: &str, upload: &UploadId, number: u32, body: Bytes) -> Result<Part> {
        self.capabilities().await?;
        self.inner.upload_part(key, upload, number, body).await
    }

    async fn upload_part_copy(
        &self,
        key: &str,
        upload: &UploadId,
        number: u32,
        source: &str,
        range: Range<u64>,
    ) -> Result<Part> {
        self.capabilities().await?;
        self.inner.upload_part_copy(key, upload, number, source, range).await
    }

    async fn complete_multipart(
        &self,
        key: &str,
        upload: &UploadId,
        parts: &[Part],
        condition: &Condition,
    ) -> Result<ETag> {
        self.capabilities().await?;
        self.inner.complete_multipart(key, upload, parts, condition).await
    }

    async fn abort_multipart(&self, key: &str, upload: &UploadId) -> Result<()> {
        self.capabilities().await?;
        self.inner.abort_multipart(key, upload).await
    }

    async fn list_multipart(&self, prefix: &str) -> Result<Vec<(String, UploadId)>> {
        self.inner.list_multipart(prefix).await
    }

    async fn copy(&self, from: &str, to: &str, options: &CopyOptions) -> Result<ETag> {
        self.capabilities().await?;
        self.inner.copy(from, to, options).await
    }

    async fn delete(&self, key: &str, condition: &Condition) -> Result<()> {
        self.capabilities().await?;
        self.inner.delete(key, condition).await
    }

    async fn delete_many(&self, keys: &[String]) -> Result<Vec<(String, StoreError)>> {
        self.capabilities().await?;
        self.inner.delete_many(keys).await
    }

    async fn list(&self, prefix: &str, start_after: Option<&str>, limit: usize) -> Result<ListPage> {
        self.inner.list(prefix, start_after, limit).await
    }

    async fn folders(&self) -> Result<Vec<String>> {
        self.inner.folders().await
    }
}

#[cfg(test)]
mod tests {
    use super::super::faulty::{Fault, FaultyStore, Rule};
    use super::super::{DirStore, Unfenced};
    use super::*;
    use tempfile::TempDir;

    struct World {
        _dir: TempDir,
        faulty: Arc<FaultyStore>,
    }

    fn world() -> World {
        let dir = TempDir::new().unwrap();
        let faulty = FaultyStore::new(Arc::new(DirStore::new(dir.path())), 1);
        World { _dir: dir, faulty }
    }

    impl World {
        fn gate(&self, place: &str) -> Arc<Gate> {
            Gate::new(Arc::clone(&self.faulty) as _, place.to_owned())
        }

        fn puts(&self) -> u64 {
            self.faulty.requests().get("put").copied().unwrap_or(0)
        }

        async fn wait_for_note(&self) {
            while self.faulty.head(NOTE).await.is_err() {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        }
    }

    #[tokio::test]
    async fn reading_asks_nothing_and_the_first_write_probes_once_for_all_mounts() {
        let world = world();
        let gate = world.gate("here");
        assert!(gate.get("k", None, None).await.is_err_and(|e| e.is_not_found()));
        assert_eq!(world.puts(), 0);
        gate.put("k", "v".into(), &PutOptions::default()).await.unwrap();
        assert!(world.puts() > 2, "it was probed");
        world.wait_for_note().await;
        let before = world.puts();
        let next = world.gate("here");
        next.look_ahead();
        next.put("k", "w".into(), &PutOptions::default()).await.unwrap();
        assert_eq!(world.puts(), before + 1, "the note was believed");
        world.gate("elsewhere").put("k", "x".into(), &PutOptions::default()).await.unwrap();
        assert!(world.puts() > before + 3, "a copied note was believed");
    }

    #[tokio::test]
    async fn a_store_that_knows_no_conditions_is_refused_and_gets_no_note() {
        let world = world();
        world.faulty.add_rule(Rule::new(Fault::Before(Kind::Unsupported)).on("put"));
        let refused = world.gate("here").put("k", "v".into(), &PutOptions::default()).await.unwrap_err();
        assert_eq!(refused.kind, Kind::Unsupported);
        assert!(refused.message.contains("--fencing none"), "{refused}");
        world.faulty.calm();
        assert!(world.faulty.head(NOTE).await.is_err_and(|e| e.is_not_found()));
    }

    #[tokio::test]
    async fn unfenced_sends_no_condition_but_looks() {
        let world = world();
        let store = Unfenced::new(Arc::clone(&world.faulty) as _);
        let absent = PutOptions { condition: Condition::Absent, ..PutOptions::default() };
        let first = store.put("k", "1".into(), &absent).await.unwrap();
        assert!(store.put("k", "2".into(), &absent).await.is_err_and(|e| e.is_precondition()));
        let matching =
            |etag: &ETag| PutOptions { condition: Condition::Match(etag.clone()), ..absent.clone() };
        let second = store.put("k", "2".into(), &matching(&first)).await.unwrap();
        assert!(store.put("k", "3".into(), &matching(&first)).await.is_err_and(|e| e.is_precondition()));
        assert!(store.delete("k", &Condition::Match(first)).await.is_err_and(|e| e.is_precondition()));
        store.delete("k", &Condition::Match(second)).await.unwrap();
    }
}
