//! What requests get while a source answers, fails and hangs.

use super::*;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc;

fn keys(id: &str, left: Duration) -> Credentials {
    Credentials::new(id, "secret", None, Some(SystemTime::now() + left), "test")
}

async fn signs(source: &CredentialSource) -> Result<String, Lack> {
    source.0.credentials().await.map(|credentials| credentials.access_key_id().to_owned())
}

/// A source that answers when it is told what, and how often it was asked.
fn asked() -> (CredentialSource, mpsc::Sender<Result<Credentials, Lack>>, Arc<AtomicUsize>) {
    let (answer, answers) = mpsc::channel::<Result<Credentials, Lack>>();
    let (answers, asked) = (Mutex::new(answers), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&asked);
    let make = move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        answers.lock().recv().unwrap_or_else(|_| Err(Lack::trouble("the test is over", false)))
    };
    (CredentialSource::over(Arc::new(make)), answer, asked)
}

/// The last look was so long ago that the next may begin.
fn rested(source: &CredentialSource) {
    source.0.state.lock().looked = None;
}

fn found_long_ago(source: &CredentialSource) {
    let mut state = source.0.state.lock();
    let found = state.found.as_mut().expect("found");
    found.at = found.at.checked_sub(PAUSE).expect("the machine runs for some seconds already");
}

#[tokio::test]
async fn nobody_waits_for_a_look_while_there_is_something_to_sign_with() {
    let (source, answer, asked) = asked();
    answer.send(Ok(keys("one", Duration::from_secs(200)))).unwrap();
    assert_eq!(signs(&source).await.unwrap(), "one");
    rested(&source);
    // A look begins, and does not end.
    for _ in 0..10 {
        assert_eq!(signs(&source).await.unwrap(), "one");
    }
    answer.send(Ok(keys("two", Duration::from_secs(3600)))).unwrap();
    let mut looks = source.0.looks.subscribe();
    while source.0.state.lock().looking.is_some() {
        looks.changed().await.unwrap();
    }
    assert_eq!(signs(&source).await.unwrap(), "two");
    rested(&source);
    assert_eq!(signs(&source).await.unwrap(), "two");
    assert_eq!(asked.load(Ordering::SeqCst), 2, "they last for an hour");
}

#[tokio::test]
async fn many_requests_share_one_look_and_its_failure() {
    let (source, answer, asked) = asked();
    let all = futures::future::join_all((0..50).map(|_| signs(&source)));
    answer.send(Err(Lack::trouble("exit 1", false))).unwrap();
    let lacks = all.await;
    assert!(
        lacks.iter().all(|signed| signed.as_ref().is_err_and(|l| l.kind == crate::store::Kind::Unavailable))
    );
    assert!(signs(&source).await.is_err(), "not asked again at once");
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    assert!(source.trouble().is_some_and(|(_, why)| why.contains("exit 1")));
    rested(&source);
    answer.send(Ok(keys("one", Duration::from_secs(3600)))).unwrap();
    assert_eq!(signs(&source).await.unwrap(), "one");
    assert_eq!(source.trouble(), None);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_hangs_is_waited_for_so_long_and_told() {
    let (source, _answer, asked) = asked();
    let begun = tokio::time::Instant::now();
    let lack = signs(&source).await.unwrap_err();
    assert!(lack.to_string().contains("has not answered"), "{lack}");
    assert!(begun.elapsed() <= WAIT + Duration::from_secs(1));
    assert!(signs(&source).await.is_err());
    // The clock of this test is ahead of the thread that looks.
    let until = Instant::now() + Duration::from_secs(30);
    while asked.load(Ordering::SeqCst) == 0 && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1, "one look at a time");
}

#[tokio::test]
async fn what_the_store_refuses_is_not_used_again_unless_it_is_found_again() {
    let (source, answer, asked) = asked();
    answer.send(Ok(keys("one", Duration::from_secs(3600)))).unwrap();
    assert_eq!(signs(&source).await.unwrap(), "one");
    found_long_ago(&source);
    source.refused("ExpiredToken");
    answer.send(Ok(keys("two", Duration::from_secs(3600)))).unwrap();
    assert_eq!(signs(&source).await.unwrap(), "two");
    // What may be somebody's lack of a right stops nobody.
    found_long_ago(&source);
    source.doubted();
    rested(&source);
    assert_eq!(signs(&source).await.unwrap(), "two");
    while asked.load(Ordering::SeqCst) < 3 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn what_is_handed_over_serves_until_it_ends() {
    let (source, answer, _) = asked();
    source.hand(keys("handed", Duration::from_secs(100)));
    rested(&source);
    assert_eq!(signs(&source).await.unwrap(), "handed");
    source.refused("ExpiredToken");
    found_long_ago(&source);
    assert_eq!(signs(&source).await.unwrap(), "handed", "nothing else is asked for");
    source.hand(keys("ended", Duration::ZERO));
    found_long_ago(&source);
    answer.send(Ok(keys("one", Duration::from_secs(3600)))).unwrap();
    assert_eq!(signs(&source).await.unwrap(), "one");
}

#[tokio::test]
async fn a_look_that_breaks_off_is_a_failure() {
    let source = CredentialSource::over(Arc::new(|_| panic!("of the test")));
    assert!(signs(&source).await.unwrap_err().to_string().contains("broke off"));
    rested(&source);
    assert!(signs(&source).await.is_err(), "another look was made");
}
