//! The workloads by name.

mod echo;
mod ledger;
mod memory;
mod point;
mod policy;
mod start;
mod tpch;
mod transport;

use std::future::Future;
use std::pin::Pin;

use anyhow::{Result, anyhow};

use crate::Options;
use crate::report::Report;

type Running<'a> = Pin<Box<dyn Future<Output = Result<Report>> + 'a>>;

pub struct Workload {
    pub name: &'static str,
    pub about: &'static str,
    run: for<'a> fn(&'a Options) -> Running<'a>,
}

impl Workload {
    pub async fn run(&self, options: &Options) -> Result<Report> {
        (self.run)(options).await
    }
}

pub const ALL: [Workload; 8] = [
    Workload {
        name: "tpch",
        about: "22 queries: our server with a Flight SQL client against DataFusion alone",
        run: |options| Box::pin(tpch::run(options)),
    },
    Workload {
        name: "transport",
        about: "rows of lineitem over Flight SQL against Arrow's own Flight server, rate and CPU",
        run: |options| Box::pin(transport::run(options)),
    },
    Workload {
        name: "echo",
        about: "a trivial function through the worker, rows a second",
        run: |options| Box::pin(echo::run(options)),
    },
    Workload {
        name: "point",
        about: "latency of a one-row query at 1, 16 and 64 clients",
        run: |options| Box::pin(point::run(options)),
    },
    Workload {
        name: "policy",
        about: "filters, masks and pseudonyms against a physically filtered copy",
        run: |options| Box::pin(policy::run(options)),
    },
    Workload {
        name: "memory",
        about: "results of 2 GB from a server whose queries may hold 256 MB",
        run: |options| Box::pin(memory::run(options)),
    },
    Workload {
        name: "ledger",
        about: "what ledger and audit cost a statement, against commits of one row",
        run: |options| Box::pin(ledger::run(options)),
    },
    Workload {
        name: "start",
        about: "the demo from nothing: its data, until it answers, its memory when idle",
        run: |options| Box::pin(start::run(options)),
    },
];

pub fn find(name: &str) -> Result<&'static Workload> {
    static WORKLOADS: [Workload; 8] = ALL;
    WORKLOADS
        .iter()
        .find(|workload| workload.name == name)
        .ok_or_else(|| {
            let names = ALL.map(|workload| workload.name).join(", ");
            anyhow!("unknown workload `{name}`; there are {names}")
        })
}
