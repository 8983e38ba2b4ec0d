//! What the hub does, run by a Flight SQL client over the network, each step as another
//! account; then what it cost.

use anyhow::{Context, bail, ensure};
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use arrow::util::pretty::pretty_format_batches;
use arrow_flight::FlightDescriptor;
use arrow_flight::sql::client::FlightSqlServiceClient;
use arrow_flight::sql::{CommandStatementQuery, ProstMessageExt};
use chrono::Utc;
use futures::TryStreamExt;
use hubflight_synth::Facts;
use prost::Message;
use tonic::Status;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

use super::DemoArguments;
use crate::server::Server;

/// A question of one account.
struct Step {
    account: &'static str,
    title: &'static str,
    sql: &'static str,
}

const READMISSION: Step = Step {
    account: "researcher",
    title: "30-day readmissions after stays of the last three years (all that this account sees)",
    sql: "WITH s AS (
  SELECT ben_idt, sor_dat,
         lead(ent_dat) OVER (PARTITION BY ben_idt ORDER BY ent_dat, sor_dat) AS next_dat
  FROM snds.t_mco_b)
SELECT count(*) AS index_stays,
       sum(CASE WHEN next_dat > sor_dat AND next_dat <= sor_dat + INTERVAL '30' DAY
                THEN 1 ELSE 0 END) AS readmitted
FROM s
WHERE sor_dat <= DATE '{last_exit}'",
};

const STEPS: [Step; 6] = [
    Step {
        account: "researcher",
        title: "Identifiers are pseudonyms of this project, communes are masked to departments",
        sql: "SELECT ben_idt, ben_nai_ann, ben_res_com FROM snds.ir_ben_r ORDER BY ben_idt LIMIT 3",
    },
    Step {
        account: "epidemiologist",
        title: "Aggregates only: no cell of fewer than 11 persons, noise in all others",
        sql: "SELECT substr(dgn_pal, 1, 1) AS chapter, count(*) AS stays, count(DISTINCT ben_idt) AS persons
FROM snds.t_mco_b GROUP BY 1 ORDER BY 2 DESC NULLS LAST LIMIT 4",
    },
    Step {
        account: "startup",
        title: "Heart rate from R-peaks found by the worker",
        sql: "SELECT count(*) AS recordings,
       round(avg(60.0 * (array_length(peaks) - 1) * fs / (peaks[-1] - peaks[1])), 1) AS beats_a_minute
FROM (SELECT fs, ecg_rpeaks(signal[2], fs) AS peaks FROM cardio.ecg LIMIT 64)
WHERE array_length(peaks) > 2",
    },
    Step {
        account: "hospital",
        title: "Images and claims linked: what the worker read of DICOM files, by diagnosis",
        sql: "SELECT b.dgn_pal, i.modality, count(*) AS images,
       round(avg(dicom_window(i.content, rows => 64, columns => 64)['pixels'][2080]), 1) AS centre
FROM imaging.instances i JOIN snds.t_mco_b b USING (ben_idt)
GROUP BY 1, 2 ORDER BY images DESC, 1, 2 LIMIT 5",
    },
    Step {
        account: "hospital",
        title: "One tag of each file",
        sql: "SELECT dicom_tags(content, 'Manufacturer') AS manufacturer, count(*) AS images
FROM imaging.instances GROUP BY 1 ORDER BY 2 DESC LIMIT 3",
    },
    Step {
        account: "curator",
        title: "A raw report, de-identified by the worker",
        sql: "SELECT substr(text_deidentify(text), 1, 320) AS report
FROM reports_raw.documents ORDER BY doc_id LIMIT 1",
    },
];

const BILL: &str = "SELECT project, count(*) AS statements, sum(rows_returned) AS rows,
       sum(bytes_scanned) AS bytes_scanned, sum(cost) AS cost, max(currency) AS currency
FROM hub.usage WHERE started_at >= TIMESTAMP '{since}' AND project IS NOT NULL
GROUP BY project ORDER BY project";

/// Runs every step; an error names the one that failed.
pub async fn run(server: &Server, arguments: &DemoArguments, facts: &Facts) -> anyhow::Result<()> {
    let since = Utc::now().format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
    let endpoint = endpoint(server, arguments)?;
    readmissions(&endpoint, facts)
        .await
        .context("readmissions")?;
    for step in &STEPS {
        let batches = show(&endpoint, step, step.sql).await.context(step.title)?;
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        ensure!(rows > 0, "the step gave no row: {}", step.title);
    }
    refusals(&endpoint).await.context("refusals")?;
    let bill = Step {
        account: "admin",
        title: "What it cost, from the ledger",
        sql: BILL,
    };
    show(&endpoint, &bill, &BILL.replace("{since}", &since))
        .await
        .context("the bill")?;
    Ok(())
}

/// The rate must be the one that the generator decided on.
async fn readmissions(endpoint: &Endpoint, facts: &Facts) -> anyhow::Result<()> {
    let truth = &facts.readmission.window;
    let sql = READMISSION
        .sql
        .replace("{last_exit}", &truth.last_exit.to_string());
    let batches = show(endpoint, &READMISSION, &sql).await?;
    let count = |column: usize| {
        let batch = batches.first()?;
        Some(
            batch
                .column(column)
                .as_primitive_opt::<Int64Type>()?
                .value(0),
        )
    };
    let found = (count(0), count(1));
    let expected = (
        i64::try_from(truth.index_stays).ok(),
        i64::try_from(truth.readmitted).ok(),
    );
    ensure!(
        found == expected,
        "the generator made {expected:?} and the query found {found:?}"
    );
    println!(
        "The generator's truth for this window: {} of {}, {:.2} %.\n",
        truth.readmitted,
        truth.index_stays,
        100.0 * truth.rate
    );
    Ok(())
}

/// What must not be seen is not seen, and says so clearly.
async fn refusals(endpoint: &Endpoint) -> anyhow::Result<()> {
    for (account, sql) in [
        ("researcher", "SELECT count(*) FROM cardio.ecg"),
        (
            "epidemiologist",
            "SELECT ben_idt, dgn_pal FROM snds.t_mco_b LIMIT 5",
        ),
        ("visitor", "SELECT 1"),
    ] {
        match refusal(endpoint, account, sql).await? {
            None => bail!("`{account}` was answered: {sql}"),
            Some(status) => println!(
                "{account}: {sql}\n  refused, {:?}: {}\n",
                status.code(),
                status.message()
            ),
        }
    }
    Ok(())
}

/// How the server refuses a query, in its own words: the Flight SQL client wraps them.
async fn refusal(endpoint: &Endpoint, account: &str, sql: &str) -> anyhow::Result<Option<Status>> {
    let mut client = login(endpoint, account).await?;
    let token = client.token().context("a handshake without a token")?;
    let bearer = format!("Bearer {token}").parse()?;
    let command = CommandStatementQuery {
        query: sql.to_owned(),
        transaction_id: None,
    };
    let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
    let mut request = tonic::Request::new(descriptor);
    request.metadata_mut().insert("authorization", bearer);
    Ok(client.inner_mut().get_flight_info(request).await.err())
}

async fn show(endpoint: &Endpoint, step: &Step, sql: &str) -> anyhow::Result<Vec<RecordBatch>> {
    let mut client = login(endpoint, step.account).await?;
    let batches = query(&mut client, sql).await?;
    println!("{}: {}", step.account, step.title);
    for line in sql.lines() {
        println!("  {line}");
    }
    println!("{}\n", pretty_format_batches(&batches)?);
    Ok(batches)
}

fn endpoint(server: &Server, arguments: &DemoArguments) -> anyhow::Result<Endpoint> {
    if !arguments.tls {
        return Ok(Endpoint::from_shared(format!("http://{}", server.flight))?);
    }
    let authority = std::fs::read(arguments.dir.join("tls").join("ca.pem"))?;
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(authority))
        .domain_name("localhost");
    Ok(Endpoint::from_shared(format!("https://{}", server.flight))?.tls_config(tls)?)
}

async fn login(
    endpoint: &Endpoint,
    account: &str,
) -> anyhow::Result<FlightSqlServiceClient<Channel>> {
    let channel = endpoint.connect().await?;
    let mut client = FlightSqlServiceClient::new(channel);
    client
        .handshake(account, &format!("{account}-demo"))
        .await?;
    Ok(client)
}

async fn query(
    client: &mut FlightSqlServiceClient<Channel>,
    sql: &str,
) -> anyhow::Result<Vec<RecordBatch>> {
    let info = client.execute(sql.to_owned(), None).await?;
    let mut batches = Vec::new();
    for endpoint in info.endpoint {
        let ticket = endpoint.ticket.context("an endpoint without a ticket")?;
        let stream = client.do_get(ticket).await?;
        batches.extend(stream.try_collect::<Vec<_>>().await?);
    }
    Ok(batches)
}
