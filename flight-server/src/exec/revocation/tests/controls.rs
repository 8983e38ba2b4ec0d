//! The same with what protects taken out: then it works, so that what refuses it elsewhere is that.

use hubflight_store::Member;

use super::*;

impl Bench {
    /// A token of another member of the project.
    async fn colleague(&self) -> IssuedToken {
        let eve = PersonProfile {
            id: "eve".into(),
            name: "Eve".into(),
            active: true,
            is_admin: false,
        };
        self.other.put_person(&eve).await.expect("written");
        let member = Member {
            project: "p".into(),
            person: "eve".into(),
            role: "member".into(),
        };
        self.other.put_member(&member).await.expect("written");
        let token = NewToken {
            person: "eve".into(),
            project: "p".into(),
            name: String::new(),
            expires_at: Utc::now() + TimeDelta::hours(1),
        };
        self.other.issue_token(&token).await.expect("issues")
    }

    async fn delivers(&self, caller: &Caller, ticket: Ticket) -> bool {
        let stream = statement::redeem(&self.hub, caller, ticket).await;
        let mut stream = stream.expect("begins");
        // The schema, and then rows.
        stream.next().await.expect("a frame").expect("delivered");
        stream.next().await.is_some_and(|frame| frame.is_ok())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_looks_what_is_withdrawn_streams_on() {
    let bench = Bench::unwatched("").await;
    let mut stream = bench.begin(&bench.token.text).await;
    bench.disable().await;
    let began = Instant::now();
    while began.elapsed().as_millis() < 2 * END_MS_MAX {
        stream.next().await.expect("a frame").expect("delivered");
    }
    assert!(!bench.hub.running.is_empty());
}

/// The person in a ticket and its seal are all that keep it from others and from being another.
#[tokio::test(flavor = "multi_thread")]
async fn without_its_seal_a_ticket_is_good_for_whoever_has_it_and_for_anything() {
    let bench = Bench::unwatched("").await;
    let ada = bench.caller(&bench.token.text).await;
    let eve = bench.caller(&bench.colleague().await.text).await;
    let opened = Opened::open(&bench.hub, &ada, Text::new("SELECT 7 AS mine".into())).await;
    let Ok(Opened::Query { handle, .. }) = opened else {
        panic!("no query: {opened:?}");
    };
    let key = &bench.hub.tickets;
    Ticket::open(&handle, key, "eve", eve.now).expect_err("another's");
    let mut bent = handle.clone();
    bent[handle.len() / 2] ^= 1;
    Ticket::open(&bent, key, "ada", ada.now).expect_err("altered");

    let mut ticket = Ticket::open(&handle, key, "ada", ada.now).expect("hers");
    assert!(bench.delivers(&eve, ticket.clone()).await);
    ticket.sql = "SELECT item FROM shop.sales LIMIT 3".into();
    assert!(bench.delivers(&ada, ticket).await);
}
