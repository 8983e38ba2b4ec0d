//! Statements and executions from their opening to the bill.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails there")]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use common::{
    audit, ledger, limits, on_each_store, opened, started, statement, store, tariff, time,
};
use hubflight_ledger::{
    AuditEvent, AuditRecord, BillScope, Fault, Filter, Ledger, LedgerError, LedgerLimits, Outcome,
    Page, Refusal, StatementKind, Tariff, Unit, UsageRecord, WorkUnit,
};
use rust_decimal::Decimal;
use uuid::Uuid;

fn money(text: &str) -> Decimal {
    Decimal::from_str_exact(text).unwrap()
}

async fn usage(ledger: &Ledger) -> Vec<UsageRecord> {
    ledger.usage(&Filter::default(), Page::FIRST).await.unwrap()
}

/// Begins the statement and counts 2 GB scanned, 1 GB returned and 3 million pixels.
async fn work(ledger: &Ledger, id: Uuid) -> hubflight_ledger::Execution {
    let execution = ledger.begin(started(id)).await.unwrap();
    let quantities = Arc::clone(execution.quantities());
    quantities.add_scanned(2_000_000_000);
    quantities.add_returned(10, 1_000_000_000);
    quantities.add_work("dicom_window", WorkUnit::Pixels, 2_000_000);
    quantities.add_work("image_embed", WorkUnit::Pixels, 1_000_000);
    quantities.add_failed_rows(12);
    for row in 0..12 {
        quantities.note_row_error(&format!("row {row}: not a DICOM file"));
    }
    execution
}

/// 2 × 0.005 + 1 × 0.09 + 2 × 0.02 + 1 × 0.25.
const WORK_COST: &str = "0.390000";

#[test]
fn an_execution_is_recorded_priced_and_audited() {
    on_each_store("lifecycle", |url| async move {
        let store = store(&url).await;
        let ledger = ledger(&store).await;
        let id = statement(&ledger, StatementKind::Query).await;
        let execution = work(&ledger, id).await;
        assert_eq!((execution.statement_id(), execution.attempt()), (id, 1));
        let running = ledger
            .queries(&Filter::default(), Page::FIRST)
            .await
            .unwrap();
        assert_eq!(
            (running[0].state.as_str(), running[0].attempt),
            ("running", Some(1))
        );

        let record = execution.settle(Outcome::Ok).await.unwrap();
        let cost: Decimal = record.lines.iter().map(|line| line.amount).sum();
        assert_eq!((record.cost, cost), (money(WORK_COST), money(WORK_COST)));
        let stored = usage(&ledger).await;
        assert_eq!(stored.len(), 1);
        let expected = UsageRecord {
            seq: stored[0].seq,
            lines: Vec::new(),
            // The store keeps microseconds.
            started_at: stored[0].started_at,
            ended_at: stored[0].ended_at,
            ..record.clone()
        };
        assert_eq!(stored[0], expected);
        assert!((record.ended_at - stored[0].ended_at).abs() < TimeDelta::microseconds(1));
        assert_eq!(record.usage_id, format!("{id}.1"));
        assert_eq!(record.organisation.as_deref(), Some("chu"));
        assert_eq!(
            record.units,
            BTreeMap::from([("pixels".to_owned(), 3_000_000)])
        );
        assert_eq!((record.failed_rows, record.row_errors.len()), (12, 10));

        let bill = ledger
            .bill(BillScope::Statements(&[id, Uuid::nil()]))
            .await
            .unwrap();
        let lines: Vec<_> = bill
            .iter()
            .map(|line| {
                (
                    line.unit,
                    line.function.as_deref(),
                    line.quantity,
                    line.amount,
                )
            })
            .collect();
        let pixels = Unit::Work(WorkUnit::Pixels);
        assert_eq!(
            lines,
            [
                (Unit::BytesScanned, None, 2_000_000_000, money("0.01")),
                (Unit::BytesReturned, None, 1_000_000_000, money("0.09")),
                (pixels, Some("dicom_window"), 2_000_000, money("0.04")),
                (pixels, Some("image_embed"), 1_000_000, money("0.25")),
            ]
        );
        let audit = ledger.audit(&Filter::default(), Page::FIRST).await.unwrap();
        let said = |entry: &AuditRecord| (entry.event.clone(), entry.outcome.clone());
        let said: Vec<_> = audit.iter().map(said).collect();
        let expected = [("intent", "begun"), ("statement", "ok")];
        assert_eq!(said, expected.map(|(e, o)| (e.to_owned(), o.to_owned())));
        for entry in audit {
            assert_eq!((entry.statement_id, entry.attempt), (Some(id), Some(1)));
            assert_eq!(entry.person.as_deref(), Some("ada"));
            assert_eq!(entry.habilitations, ["h1@2"]);
            assert_eq!(entry.datasets, ["snds@7"]);
            let columns = serde_json::json!({"snds.er_prs_f": ["ben_idt"]});
            assert_eq!(entry.columns, columns);
            assert_eq!(entry.sql_sha256, Some("ab".repeat(32)));
        }
        let query = &ledger
            .queries(&Filter::default(), Page::FIRST)
            .await
            .unwrap()[0];
        assert_eq!((query.state.as_str(), query.failed_rows), ("ok", 12));
        assert_eq!(query.tags["study"], "a \"b\"");
        ledger.close().await.unwrap();
    });
}

#[test]
fn who_pays() {
    let cases = [
        (Some(Outcome::Ok), StatementKind::Query, "ok", WORK_COST),
        (
            Some(Outcome::Cancelled),
            StatementKind::Dml,
            "cancelled",
            WORK_COST,
        ),
        (None, StatementKind::Query, "cancelled", WORK_COST),
        (Some(Outcome::Ok), StatementKind::Metadata, "ok", "0"),
        (
            Some(Outcome::Cancelled),
            StatementKind::Metadata,
            "cancelled",
            "0",
        ),
        (Some(Outcome::Ok), StatementKind::Ddl, "ok", WORK_COST),
        (
            Some(Outcome::Error {
                kind: "invalid_argument",
                fault: Fault::User,
            }),
            StatementKind::Query,
            "error",
            WORK_COST,
        ),
        (
            Some(Outcome::Error {
                kind: "internal",
                fault: Fault::Hub,
            }),
            StatementKind::Query,
            "error",
            "0",
        ),
    ];
    on_each_store("who_pays", |url| async move {
        let store = store(&url).await;
        let ledger = ledger(&store).await;
        for (outcome, kind, _, _) in cases {
            let id = statement(&ledger, kind).await;
            let execution = work(&ledger, id).await;
            match outcome {
                Some(outcome) => {
                    let record = execution.settle(outcome).await.unwrap();
                    // What is free is so in every unit: it has no line at all.
                    assert_eq!(record.lines.is_empty(), record.cost.is_zero());
                }
                None => drop(execution),
            }
        }
        ledger.flush().await.unwrap();
        let records = usage(&ledger).await;
        assert_eq!(records.len(), cases.len());
        for (record, (outcome, kind, label, cost)) in records.iter().zip(cases) {
            assert_eq!(record.outcome, label);
            assert_eq!(record.kind, kind.as_str());
            assert_eq!(record.cost, money(cost), "{outcome:?} {kind:?}");
            // What was done is recorded, whoever pays.
            assert_eq!(record.bytes_scanned, 2_000_000_000);
            let kind = match outcome {
                Some(Outcome::Error { kind, .. }) => Some(kind),
                _ => None,
            };
            assert_eq!(record.error_kind.as_deref(), kind);
        }
        let total = ledger.totals(time(-1)).await.unwrap();
        assert_eq!(total.len(), 1);
        assert_eq!((total[0].records, total[0].cost), (8, money("1.95")));
        let scope = BillScope::Project {
            project: "p",
            since: time(-1),
        };
        let bill = ledger.bill(scope).await.unwrap();
        assert_eq!(
            bill.iter().map(|line| line.amount).sum::<Decimal>(),
            money("1.95")
        );
        assert_eq!(
            ledger
                .bill(BillScope::All { since: time(-1) })
                .await
                .unwrap(),
            bill
        );
        let later = BillScope::All {
            since: time(10_000_000_000),
        };
        assert!(ledger.bill(later).await.unwrap().is_empty());
        ledger.close().await.unwrap();
    });
}

#[test]
fn attempts_refusals_and_unknown_statements() {
    on_each_store("attempts", |url| async move {
        let store = store(&url).await;
        let ledger = ledger(&store).await;
        let id = statement(&ledger, StatementKind::Query).await;
        let refuse = |id| {
            ledger.refuse(Refusal {
                statement_id: id,
                reason: "permission_denied",
                habilitations: vec![("h1".to_owned(), 1)],
                at: time(10_000_000),
            })
        };
        refuse(id).await.unwrap();
        refuse(id).await.unwrap();
        let attempts = futures::future::join_all((0..20).map(|_| ledger.begin(started(id)))).await;
        let mut numbers: Vec<u32> = attempts
            .iter()
            .map(|e| e.as_ref().unwrap().attempt())
            .collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (1..=20).collect::<Vec<_>>());
        drop(attempts);
        refuse(id).await.unwrap();

        let nobody = Uuid::now_v7();
        assert!(matches!(
            ledger.begin(started(nobody)).await,
            Err(LedgerError::UnknownStatement(missing)) if missing == nobody
        ));
        assert!(matches!(
            refuse(nobody).await,
            Err(LedgerError::UnknownStatement(_))
        ));
        let again = opened(StatementKind::Query);
        ledger.statement(again.clone()).await.unwrap();
        let refused = ledger.statement(again.clone()).await;
        assert!(
            matches!(refused, Err(LedgerError::DuplicateStatement(id)) if id == again.statement_id)
        );

        let records = usage(&ledger).await;
        assert_eq!(records.len(), 21, "one of the refusals, twenty cancelled");
        assert_eq!(
            (records[0].attempt, records[0].outcome.as_str()),
            (0, "refused")
        );
        assert_eq!(records[0].error_kind.as_deref(), Some("permission_denied"));
        assert_eq!(records[0].cost, Decimal::ZERO);
        let audit = ledger.audit(&Filter::default(), Page::FIRST).await.unwrap();
        assert_eq!(audit.iter().filter(|a| a.outcome == "refused").count(), 3);
        assert_eq!(audit.len(), 43, "twenty intents, and the outcomes");
        let states = ledger
            .queries(&Filter::default(), Page::FIRST)
            .await
            .unwrap();
        assert_eq!(states.len(), 22);
        assert_eq!(states.last().unwrap().state, "open");
        ledger.close().await.unwrap();
    });
}

#[test]
fn a_statement_is_durable_before_a_later_begin() {
    on_each_store("soon", |url| async move {
        let store = store(&url).await;
        let ledger = ledger(&store).await;
        let opened = opened(StatementKind::Query);
        let id = opened.statement_id;
        ledger.statement_soon(opened).await.unwrap();
        let execution = ledger.begin(started(id)).await.unwrap();
        execution.settle(Outcome::Ok).await.unwrap();
        ledger.close().await.unwrap();
    });
}

#[test]
fn a_ticket_never_redeemed_settles_at_zero() {
    on_each_store("unredeemed", |url| async move {
        let store = store(&url).await;
        let first = ledger(&store).await;
        let (mut expired, mut redeemed) =
            (opened(StatementKind::Query), opened(StatementKind::Query));
        let open = statement(&first, StatementKind::Query).await;
        expired.expires_at = time(-1);
        redeemed.expires_at = time(-1);
        for statement in [&expired, &redeemed] {
            first.statement(statement.clone()).await.unwrap();
        }
        let execution = first.begin(started(redeemed.statement_id)).await.unwrap();
        execution.settle(Outcome::Ok).await.unwrap();
        first.close().await.unwrap();

        let quick = LedgerLimits {
            sweep_ms: 10,
            ..limits()
        };
        let second = Ledger::open(&store, tariff(), quick, audit())
            .await
            .unwrap();
        let filter = Filter {
            statement_id: Some(expired.statement_id),
            ..Filter::default()
        };
        let mut found = Vec::new();
        for _ in 0..500 {
            found = second.usage(&filter, Page::FIRST).await.unwrap();
            if !found.is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(
            (found[0].attempt, found[0].outcome.as_str()),
            (0, "unredeemed")
        );
        assert_eq!(found[0].cost, Decimal::ZERO);
        tokio::time::sleep(Duration::from_millis(50)).await;
        let all = usage(&second).await;
        assert_eq!(
            all.len(),
            2,
            "once, and neither the redeemed nor the open one"
        );
        assert!(all.iter().all(|record| record.statement_id != open));
        let audit = second.audit(&filter, Page::FIRST).await.unwrap();
        assert_eq!(audit.len(), 1);
        second.close().await.unwrap();
    });
}

#[test]
fn pages_and_filters() {
    on_each_store("pages", |url| async move {
        let store = store(&url).await;
        let ledger = ledger(&store).await;
        for index in 0..25 {
            let mut opened = opened(StatementKind::Query);
            opened.project = (index % 2 == 0).then(|| "p".to_owned());
            let id = opened.statement_id;
            ledger.statement_soon(opened).await.unwrap();
            drop(ledger.begin(started(id)).await.unwrap());
        }
        ledger.flush().await.unwrap();
        let mut page = Page {
            after_seq: 0,
            rows_max: 10,
        };
        let mut seen = Vec::new();
        loop {
            let records = ledger.usage(&Filter::default(), page).await.unwrap();
            let Some(last) = records.last() else { break };
            page.after_seq = last.seq;
            seen.extend(records.into_iter().map(|record| record.statement_id));
        }
        let distinct: std::collections::HashSet<_> = seen.iter().collect();
        assert_eq!((seen.len(), distinct.len()), (25, 25));
        let mine = Filter {
            project: Some("p".to_owned()),
            person: Some("ada".to_owned()),
            since: Some(time(-1)),
            ..Filter::default()
        };
        assert_eq!(ledger.usage(&mine, Page::FIRST).await.unwrap().len(), 13);
        assert_eq!(ledger.queries(&mine, Page::FIRST).await.unwrap().len(), 13);
        assert_eq!(ledger.audit(&mine, Page::FIRST).await.unwrap().len(), 26);
        let none = Filter {
            project: Some("p' OR '1'='1".to_owned()),
            ..Filter::default()
        };
        assert!(ledger.usage(&none, Page::FIRST).await.unwrap().is_empty());
        for (event, project) in [
            ("all", None),
            ("all", Some("q")),
            ("one", None),
            ("one", Some("p")),
        ] {
            let event = hubflight_ledger::AuditEvent {
                event,
                project: project.map(str::to_owned),
                ..common::login(chrono::Utc::now())
            };
            ledger.event(event).await.unwrap();
        }
        let own = Filter {
            project: Some("p".to_owned()),
            of_all: Some("all"),
            ..Filter::default()
        };
        let seen = ledger.audit(&own, Page::FIRST).await.unwrap();
        let events = seen.iter().filter(|entry| entry.statement_id.is_none());
        let events: Vec<_> = events
            .map(|e| (e.event.as_str(), e.project.as_deref()))
            .collect();
        assert_eq!(events, [("all", None), ("one", Some("p"))]);
        ledger.close().await.unwrap();
    });
}

#[test]
fn records_are_immutable_and_prices_are_kept() {
    on_each_store("immutable", |url| async move {
        let store = store(&url).await;
        let first = ledger(&store).await;
        let id = statement(&first, StatementKind::Query).await;
        let execution = work(&first, id).await;
        execution.interim().await.unwrap();
        execution.settle(Outcome::Ok).await.unwrap();
        first
            .event(AuditEvent {
                event: "login",
                outcome: "ok",
                person: Some("ada".to_owned()),
                project: None,
                client: "test".to_owned(),
                at: time(0),
            })
            .await
            .unwrap();
        for sql in [
            "UPDATE usage SET cost = '0'",
            "UPDATE usage_lines SET amount = '0'",
            "UPDATE audit SET outcome = 'ok'",
            "UPDATE interims SET at = 0",
            "UPDATE executions SET settled = 0",
            "UPDATE executions SET settled = 1, owner = 1",
            "UPDATE tariffs SET body = '{}'",
            "DELETE FROM usage_lines",
            "DELETE FROM usage",
            "DELETE FROM interims",
            "DELETE FROM executions",
            "DELETE FROM statements",
            "DELETE FROM tariffs",
            "DELETE FROM audit",
        ] {
            let refused = sqlx::query(sql).execute(store.pool()).await;
            let refused = refused.unwrap_err().to_string();
            // By its trigger, not because something else refers to it.
            let said = ["immutable", "is kept", "is only settled"];
            assert!(
                said.iter().any(|said| refused.contains(said)),
                "{sql}: {refused}"
            );
        }
        first.close().await.unwrap();
        assert!(matches!(first.flush().await, Err(LedgerError::Closed)));

        let text = common::TARIFF;
        let dearer: Tariff = toml::from_str(&text.replace("0.09", "0.10")).unwrap();
        let refused = Ledger::open(&store, dearer, limits(), audit()).await;
        assert!(matches!(refused, Err(LedgerError::TariffChanged { .. })));
        let same: Tariff = toml::from_str(&text.replace("0.09", "0.0900")).unwrap();
        Ledger::open(&store, same, limits(), audit())
            .await
            .unwrap()
            .close()
            .await
            .unwrap();
    });
}
