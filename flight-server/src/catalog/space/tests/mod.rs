//! The space through statements, on a hub with one open dataset of ten persons.

mod at_rest;
mod limits;
mod merges;
mod rights;
mod tables;
mod uploads;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use arrow::array::{Array, Int64Array, RecordBatch, StringArray};
use arrow::util::display::array_value_to_string;
use chrono::TimeDelta;
use datafusion::common::ScalarValue;
use datafusion::physical_plan::execute_stream;
use futures::StreamExt;
use hubflight_ledger::Quantities;
use hubflight_udfs::StatementWork;
use parquet::arrow::ArrowWriter;
use tempfile::TempDir;

use super::change::change;
use super::*;
use crate::auth::session::SessionOptions;
use crate::catalog::project::{Look, Viewer};
use crate::error::ErrorKind;
use crate::exec::commits::Commits;
use crate::exec::meter::Meter;
use crate::plan::Planning;
use crate::plan::parse::parse;
use crate::rig::{ada, inside, open_hub};

struct Bench {
    hub: Arc<Hub>,
    folder: TempDir,
    now: DateTime<Utc>,
}

/// Ten persons; `p0` … `p9` are 20, 25, … 65 years old.
fn write_people(folder: &Path) {
    std::fs::create_dir_all(folder).expect("folder");
    let batch = RecordBatch::try_from_iter([
        (
            "name",
            Arc::new(StringArray::from_iter_values(
                (0..10).map(|i| format!("p{i}")),
            )) as _,
        ),
        (
            "age",
            Arc::new(Int64Array::from_iter_values((0..10).map(|i| 20 + 5 * i))) as _,
        ),
    ])
    .expect("valid");
    let file = std::fs::File::create(folder.join("people.parquet")).expect("file");
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).expect("writer");
    writer.write(&batch).expect("writes");
    writer.close().expect("closes");
}

async fn bench_with(limits: &str, quota_mb: u64) -> Bench {
    let folder = tempfile::tempdir().expect("folder");
    write_people(&folder.path().join("data"));
    let text = format!(
        "[server]\nstate = 'state [of] the hub?'\n[limits]\n{limits}\n\
         [[dataset]]\nname = 'data'\nfolder = 'data'\npersons = 'none'\nproducer = 'x'\n\
         [[person]]\nid = 'ada'\n\
         [[project]]\nid = 'p'\nmembers = ['ada']\nvalid_from = 2000-01-01\n\
         valid_to = 2999-01-01\nspace_quota_mb = {quota_mb}\n\
         [[habilitation]]\nproject = 'p'\ndataset = 'data'\ndecision = 'd'\n\
         valid_from = 2000-01-01\nvalid_to = 2999-01-01\n"
    )
    .replace("2000-01-01", "'2000-01-01'")
    .replace("2999-01-01", "'2999-01-01'");
    let hub = open_hub(folder.path(), &text).await;
    Bench {
        hub,
        folder,
        now: Utc::now(),
    }
}

async fn bench() -> Bench {
    bench_with("", 100).await
}

fn viewer() -> Viewer {
    Viewer {
        who: ada(),
        zone: inside(),
        roles: Default::default(),
    }
}

fn look<'a>(project: &'a str, viewer: &'a Viewer, now: DateTime<Utc>) -> Look<'a> {
    Look {
        project,
        viewer,
        snapshot: None,
        overlay: None,
        now,
    }
}

impl Bench {
    async fn view(&self) -> Arc<ProjectView> {
        let view = ProjectView::load(&self.hub, look("p", &viewer(), self.now)).await;
        Arc::new(view.expect("view"))
    }

    fn planning<'a>(
        &'a self,
        view: &'a Arc<ProjectView>,
        options: &'a SessionOptions,
    ) -> Planning<'a> {
        Planning {
            hub: &self.hub,
            view,
            options,
            now: self.now,
        }
    }

    fn work(&self) -> (Arc<StatementWork>, Arc<Meter>, Arc<Quantities>) {
        let quantities = Arc::new(Quantities::default());
        let meter = Meter::new(&self.hub, Arc::clone(&quantities));
        let work = StatementWork {
            statement_id: uuid::Uuid::now_v7().to_string(),
            tenant: "p".into(),
            deadline: u64::MAX,
            priority: 1,
            trace: None,
            pool: Arc::clone(&self.hub.workers),
            meter: Arc::clone(&meter) as _,
            ended: Arc::default(),
        };
        (Arc::new(work), meter, quantities)
    }

    async fn bound(&self, sql: &str, parameters: Vec<ScalarValue>) -> Result<u64> {
        let (work, meter, _) = self.work();
        let view = self.view().await;
        let options = SessionOptions::default();
        let parsed = parse(sql, 1 << 20)?;
        change(
            &self.planning(&view, &options),
            (parsed, parameters),
            &AtomicBool::new(false),
            Run {
                work: &work,
                meter: &meter,
                commits: &Commits::default(),
            },
        )
        .await
    }

    async fn run(&self, sql: &str) -> Result<u64> {
        self.bound(sql, Vec::new()).await
    }

    async fn done(&self, sql: &str) -> u64 {
        self.run(sql).await.expect(sql)
    }

    async fn refused(&self, sql: &str, kind: ErrorKind, part: &str) {
        let error = self.run(sql).await.expect_err(sql);
        assert_eq!(error.kind, kind, "{sql}: {error}");
        assert!(error.to_string().contains(part), "{sql}: {error}");
    }

    async fn query_in(&self, view: &Arc<ProjectView>, sql: &str) -> Result<Vec<String>> {
        let options = SessionOptions::default();
        let authorised = self
            .planning(view, &options)
            .query(parse(sql, 1 << 20)?)
            .await?;
        let (work, _, _) = self.work();
        let (plan, context) = authorised
            .optimise()?
            .physical(&self.hub.engine, work)
            .await?;
        let mut stream = execute_stream(plan, context)?;
        let mut rows = Vec::new();
        while let Some(batch) = stream.next().await {
            let batch = batch?;
            for row in 0..batch.num_rows() {
                let cell = |column: &Arc<dyn Array>| match column.is_null(row) {
                    true => "-".to_owned(),
                    false => array_value_to_string(column, row).expect("prints"),
                };
                rows.push(
                    batch
                        .columns()
                        .iter()
                        .map(cell)
                        .collect::<Vec<_>>()
                        .join(" "),
                );
            }
        }
        Ok(rows)
    }

    async fn query(&self, sql: &str) -> Result<Vec<String>> {
        self.query_in(&self.view().await, sql).await
    }

    async fn rows(&self, sql: &str) -> Vec<String> {
        self.query(sql).await.expect(sql)
    }

    async fn fails(&self, sql: &str, kind: ErrorKind, part: &str) {
        let error = self.query(sql).await.expect_err(sql);
        assert_eq!(error.kind, kind, "{sql}: {error}");
        assert!(error.to_string().contains(part), "{sql}: {error}");
    }

    fn files(&self) -> Vec<PathBuf> {
        let folder = files::folder(&self.hub, "p").expect("folder");
        assert!(folder.starts_with(self.folder.path()));
        match std::fs::read_dir(folder) {
            Ok(entries) => entries.map(|entry| entry.expect("entry").path()).collect(),
            Err(_) => Vec::new(),
        }
    }
}
