//! Many rows per statement: one trip to the database for up to 64 rows.

use sqlx::any::{AnyArguments, AnyRow};
use sqlx::{AnyConnection, Arguments, AssertSqlSafe, Encode, Type};

use crate::LedgerError;

/// Rows per statement. A few sizes only, so that the connection's cache of prepared
/// statements holds them all; 64 rows of 21 columns stay far below SQLite's 32,766 parameters.
const ROWS_PER_STATEMENT: [usize; 4] = [64, 16, 4, 1];

/// Parameters of one row, in the order of the template's question marks.
#[derive(Default)]
pub(crate) struct Parameters {
    arguments: AnyArguments,
    failed: bool,
}

impl Parameters {
    pub fn add<T>(&mut self, value: T) -> &mut Self
    where
        T: for<'q> Encode<'q, sqlx::Any> + Type<sqlx::Any>,
    {
        self.failed |= self.arguments.add(value).is_err();
        self
    }
}

/// A statement over several rows: `head`, then one `row` template for each, separated by
/// commas, then `tail`. Each `?` of a template becomes the next numbered parameter.
#[derive(Clone, Copy)]
pub(crate) struct Bulk {
    pub head: &'static str,
    pub row: &'static str,
    pub tail: &'static str,
}

impl Bulk {
    /// Runs the statement for all items, in as few trips as possible, and answers the rows of
    /// its RETURNING clause.
    pub async fn run<T>(
        self,
        connection: &mut AnyConnection,
        items: &[T],
        bind: impl Fn(&T, &mut Parameters),
    ) -> Result<Vec<AnyRow>, LedgerError> {
        let mut returned = Vec::new();
        let mut rest = items;
        for size in ROWS_PER_STATEMENT {
            while rest.len() >= size {
                let (chunk, after) = rest.split_at(size);
                rest = after;
                let mut parameters = Parameters::default();
                for item in chunk {
                    bind(item, &mut parameters);
                }
                if parameters.failed {
                    return Err(LedgerError::Corrupt { what: "parameter" });
                }
                // Only texts of this crate are in it; values are parameters.
                let sql = AssertSqlSafe(self.sql(size));
                let rows = sqlx::query_with(sql, parameters.arguments)
                    .fetch_all(&mut *connection)
                    .await?;
                returned.extend(rows);
            }
        }
        Ok(returned)
    }

    fn sql(self, rows: usize) -> String {
        let mut sql = String::with_capacity(self.head.len() + rows * self.row.len() * 2);
        sql.push_str(self.head);
        let mut number = 0;
        for row in 0..rows {
            if row > 0 {
                sql.push_str(", ");
            }
            for part in self.row.split_inclusive('?') {
                match part.strip_suffix('?') {
                    Some(text) => {
                        number += 1;
                        sql.push_str(text);
                        sql.push_str(&format!("${number}"));
                    }
                    None => sql.push_str(part),
                }
            }
        }
        sql.push_str(self.tail);
        sql
    }
}
