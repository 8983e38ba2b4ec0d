//! What waits, is planned, or has been read to its end: whose places it takes, and what ends it.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn what_ends_while_a_statement_waits_ends_it_before_its_first_frame() {
    for way in ["habilitation", "person"] {
        // Nobody looks: it is found by the statement itself.
        let bench = Bench::unwatched("queries_per_person_max = 1").await;
        let caller = bench.caller(&bench.token.text).await;
        let ticket = bench.ticket(&caller, "SELECT item FROM shop.sales").await;
        let first = bench.begin(&bench.token.text).await;
        let change = "CREATE TABLE space.t AS SELECT item FROM shop.sales";
        let change = Opened::open(&bench.hub, &caller, Text::new(change.into()));
        let query = statement::redeem(&bench.hub, &caller, ticket);
        let withdrawn = async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            match way {
                "person" => bench.disable().await,
                _ => {
                    let id = bench.habilitation().await.id;
                    let revoked = bench.other.revoke_habilitation(&id).await;
                    revoked.expect("revoked");
                }
            }
            drop(first);
        };
        let (query, change, ()) = tokio::join!(query, change, withdrawn);
        let query = query.err().expect("refused").kind;
        let change = change.expect_err("refused").kind;
        match way {
            "person" => assert_eq!((query, change), (UNKNOWN, UNKNOWN)),
            // The table is gone with the right.
            _ => assert_eq!((query, change), (ErrorKind::NotFound, ErrorKind::NotFound)),
        }
        let snapshot = bench.hub.store.current_snapshot("p").await;
        assert_eq!(snapshot.expect("read"), 0, "{way}: a table was made");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ends_while_a_statement_is_planned_ends_it_before_its_first_frame() {
    let bench = Bench::new().await;
    let caller = bench.caller(&bench.token.text).await;
    let grounds = Grounds {
        standing: caller.principal.standing.clone(),
        era: Some(bench.hub.datasets.opposition().era),
        ..Grounds::of_nobody("ada")
    };
    confirm(&bench.hub, &grounds).await.expect("holds");
    bench
        .other
        .remove_member("p", "ada")
        .await
        .expect("removed");
    let error = confirm(&bench.hub, &grounds).await.expect_err("ended");
    assert_eq!(error.kind, UNKNOWN);
}

/// The watch looks four times a second; what is committed meanwhile has no rows of who opposed.
#[tokio::test(flavor = "multi_thread")]
async fn who_opposes_before_a_commit_is_not_in_it() {
    let bench = Bench::unwatched("").await;
    let caller = bench.caller(&bench.token.text).await;
    let grounds = Grounds {
        standing: caller.principal.standing.clone(),
        era: Some(bench.hub.datasets.opposition().era),
        ..Grounds::of_nobody("ada")
    };
    let before = confirmed_at(&bench.hub, &grounds).await.expect("holds");
    let mut write = bench.other.write().await.expect("begins");
    let entry = hubflight_store::Opposition {
        domain: "nir".into(),
        value: "1".into(),
    };
    write.put_opposition(&entry).await.expect("entered");
    write.commit().await.expect("committed");
    let revision = bench.hub.store.rights_revision().await.expect("read");
    assert!(revision > before, "the entry is a change of rights");
    let error = confirmed_at(&bench.hub, &grounds).await.expect_err("ended");
    assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
    let grounds = Grounds {
        era: Some(bench.hub.datasets.opposition().era),
        ..grounds
    };
    assert_eq!(
        confirmed_at(&bench.hub, &grounds)
            .await
            .expect("planned after it"),
        revision
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_nobody_fetches_is_its_persons_until_the_deadline() {
    let limits = "queries_per_person_max = 1\nqueue_wait_ms_max = 100";
    let bench = Bench::unwatched(limits).await;
    let mut caller = bench.caller(&bench.token.text).await;
    caller.principal.options.statement_seconds = Some(2);
    let sql = "SELECT item FROM shop.sales LIMIT 3";
    let redeem = async || {
        let ticket = bench.ticket(&caller, sql).await;
        statement::redeem(&bench.hub, &caller, ticket).await
    };
    let mut stream = redeem().await.expect("begins");
    // All of it is encoded by then, and waits for a client that does not read.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(bench.hub.engine.queries_running(), 0, "nothing computes");
    let error = redeem().await.err().expect("one at once");
    assert_eq!(error.kind, ErrorKind::ResourceExhausted);
    tokio::time::sleep(Duration::from_millis(2_000)).await;
    let record = bench.record().await;
    assert_eq!(record.error_kind.as_deref(), Some("deadline_exceeded"));
    bench.idle().await;
    let next = redeem().await.expect("a place");
    // Nothing of it is handed over any more.
    let status = stream.next().await.expect("an error").expect_err("late");
    assert_eq!(Error::from(status).kind, ErrorKind::DeadlineExceeded);
    drop(next);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_everything_is_not_told_that_it_failed() {
    let bench = Bench::new().await;
    let caller = bench.caller(&bench.token.text).await;
    let ticket = bench
        .ticket(&caller, "SELECT item FROM shop.sales LIMIT 3")
        .await;
    let stream = statement::redeem(&bench.hub, &caller, ticket).await;
    let mut stream = stream.expect("begins");
    stream.next().await.expect("a frame").expect("delivered");
    bench.hub.ledger.close().await.expect("closed");
    while let Some(frame) = stream.next().await {
        frame.expect("delivered, and the end is the end");
    }
}

#[tokio::test]
async fn one_decision_is_for_all_that_run_on_the_same_grounds() {
    let registry = crate::exec::registry::Registry::default();
    let enter = |grounds| {
        let stop = Arc::new(crate::exec::registry::Stop::default());
        registry.enter(uuid::Uuid::now_v7(), stop, grounds)
    };
    let other_project = Grounds {
        project: "q".into(),
        ..Grounds::of_nobody("ada")
    };
    let mut places = vec![enter(Grounds::of_nobody("eve")), enter(other_project)];
    places.extend((0..1_000).map(|_| enter(Grounds::of_nobody("ada"))));
    let groups = alike(registry.due(1, Utc::now()));
    let mut sizes: Vec<usize> = groups.iter().map(Vec::len).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [1, 1, 1_000]);
}

#[tokio::test(flavor = "multi_thread")]
async fn planning_takes_one_of_its_persons_places() {
    let bench = Bench::unwatched("queue_wait_ms_max = 50").await;
    let caller = bench.caller(&bench.token.text).await;
    let mut places = Vec::new();
    while let Ok(place) = bench.hub.engine.plan("ada").await {
        places.push(place);
    }
    assert!(places.len() < 100, "no bound");
    let text = Text::new("SELECT item FROM shop.sales".into());
    let opened = Opened::open(&bench.hub, &caller, text.clone()).await;
    let described = statement::describe(&bench.hub, &caller, &text).await;
    for error in [opened.err(), described.err()] {
        assert_eq!(error.expect("full").kind, ErrorKind::ResourceExhausted);
    }
    bench.hub.engine.plan("eve").await.expect("her own");
    drop(places);
    bench.ticket(&caller, &text.sql).await;
}

/// A query and a change that wait behind another statement, and how they end when that is gone.
async fn waiting(bench: &Bench, meanwhile: impl AsyncFnOnce(&Caller, &Ticket)) -> [ErrorKind; 2] {
    let caller = bench.caller(&bench.token.text).await;
    let ticket = bench.ticket(&caller, ENDLESS).await;
    let first = bench.begin(&bench.token.text).await;
    let change = "CREATE TABLE space.t AS SELECT item FROM shop.sales";
    let change = Opened::open(&bench.hub, &caller, Text::new(change.into()));
    let query = async {
        let mut stream = statement::redeem(&bench.hub, &caller, ticket.clone()).await?;
        Err::<(), _>(Error::from(error_of(&mut stream).await))
    };
    let between = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        meanwhile(&caller, &ticket).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        drop(first);
    };
    let (query, change, ()) = tokio::join!(query, change, between);
    [query.err(), change.err()].map(|error| error.map_or(ErrorKind::Internal, |error| error.kind))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_closed_ends_what_waits_of_it() {
    let bench = Bench::unwatched("queries_per_person_max = 1").await;
    let ended = waiting(&bench, async |caller, _| {
        bench.hub.running.close_session(&caller.principal.session);
    });
    assert_eq!(ended.await, [ErrorKind::Cancelled; 2]);
    let snapshot = bench.hub.store.current_snapshot("p").await;
    assert_eq!(snapshot.expect("read"), 0, "a table was made");
    bench.idle().await;
    // Who goes on begins anew.
    drop(bench.begin(&bench.token.text).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_cancelled_while_it_waits_does_not_run() {
    let bench = Bench::unwatched("queries_per_person_max = 1").await;
    let hub = &bench.hub;
    let ended = waiting(&bench, async |caller, ticket| {
        let (statement, later) = (ticket.statement_id, ticket.expires);
        let withdrawn = hub.withdrawn.add("ada", statement, later, caller.now);
        withdrawn.expect("room");
        assert!(!hub.running.cancel(statement, "ada"), "it waits");
    });
    let [query, change] = ended.await;
    // The change is another statement, which goes on.
    assert_eq!((query, change), (ErrorKind::Cancelled, ErrorKind::Internal));
    let records = hub.ledger.usage(&Filter::default(), Page::FIRST).await;
    let records = records.expect("read");
    let ran = records.iter().filter(|record| record.attempt > 0).count();
    assert_eq!(ran, 2, "the first, and the change: {records:?}");
}
