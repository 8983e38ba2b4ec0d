//! A Flight SQL client that reads results to the end.

use anyhow::{Context, Result};
use arrow::array::RecordBatch;
use arrow_flight::sql::client::FlightSqlServiceClient;
use futures::TryStreamExt;
use tonic::transport::{Channel, Endpoint};

pub struct Client {
    inner: FlightSqlServiceClient<Channel>,
}

impl Client {
    /// A session of its own connection.
    pub async fn login(
        address: std::net::SocketAddr,
        account: &str,
        password: &str,
    ) -> Result<Self> {
        let channel = Endpoint::from_shared(format!("http://{address}"))?
            .tcp_nodelay(true)
            .initial_stream_window_size(Some(4 << 20))
            .initial_connection_window_size(Some(16 << 20))
            .connect()
            .await?;
        let mut inner = FlightSqlServiceClient::new(channel);
        inner.handshake(account, password).await?;
        Ok(Self { inner })
    }

    /// All batches of a query.
    pub async fn query(&mut self, sql: &str) -> Result<Vec<RecordBatch>> {
        let mut batches = Vec::new();
        self.each(sql, |batch| batches.push(batch)).await?;
        Ok(batches)
    }

    /// Calls `take` with each batch as it arrives.
    pub async fn each(&mut self, sql: &str, mut take: impl FnMut(RecordBatch)) -> Result<()> {
        let info = self.inner.execute(sql.to_owned(), None).await?;
        for endpoint in info.endpoint {
            let ticket = endpoint.ticket.context("an endpoint without a ticket")?;
            let mut stream = self.inner.do_get(ticket).await?;
            while let Some(batch) = stream.try_next().await? {
                take(batch);
            }
        }
        Ok(())
    }
}
