//! `--require-session` and `--require-empty`: what has to be at the store, or must not be, looked at before
//! anything is written.

use super::exit::{Exit, Failure};
use super::options::MountArgs;
use crate::store::ObjectStore;

/// Below it are a session's own objects.
const OURS: &str = ".cwdfs/";
/// Ours too, but there also where no session has been made yet: what a probe finds out, and a probe.
const PROBES: [&str; 2] = [".cwdfs/store", ".cwdfs/probe-"];
/// Objects looked at; those of probes are fewer.
const FEW: usize = 100;

/// Fails where the store is not as it is required to be.
pub async fn met(args: &MountArgs, store: &dyn ObjectStore) -> Result<(), Failure> {
    let refused = |what: &str| {
        let line = format!("{what}; nothing was changed");
        Err(Failure::new(Exit::CannotStart, line))
    };
    if args.require_session && !has_session(store).await? {
        return refused(
            "there is no session here (--require-session): is the name right? Without the option one is made",
        );
    }
    if args.require_empty && has_anything(store).await? {
        return refused("there are objects here already (--require-empty): is the name right?");
    }
    Ok(())
}

async fn has_session(store: &dyn ObjectStore) -> Result<bool, Failure> {
    let page = store.list(OURS, None, FEW).await?;
    Ok(page.objects.iter().any(|object| !is_probe(&object.key)))
}

async fn has_anything(store: &dyn ObjectStore) -> Result<bool, Failure> {
    let page = store.list("", None, FEW).await?;
    Ok(page.objects.iter().any(|object| !is_probe(&object.key)))
}

fn is_probe(key: &str) -> bool {
    PROBES.iter().any(|start| key.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{DirStore, PutOptions};

    #[tokio::test]
    async fn a_probe_is_no_session_and_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = DirStore::new(dir.path());
        let put = async |key: &str| {
            store.put(key, "x".into(), &PutOptions::default()).await.expect("put");
        };
        let found = async || {
            (has_session(&store).await.expect("listed"), has_anything(&store).await.expect("listed"))
        };
        assert_eq!(found().await, (false, false));
        put(".cwdfs/store").await;
        put(".cwdfs/probe-0").await;
        assert_eq!(found().await, (false, false));
        put("plain").await;
        assert_eq!(found().await, (false, true));
        put(".cwdfs/log/1-2/1").await;
        assert_eq!(found().await, (true, true));
    }
}
