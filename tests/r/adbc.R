# R over ADBC by reticulate: Python's driver, and data frames without the package `arrow`.

library(reticulate)
use_python(Sys.getenv("HUBFLIGHT_PYTHON"), required = TRUE)
flightsql <- import("adbc_driver_flightsql.dbapi", convert = FALSE)
pa <- import("pyarrow", convert = FALSE)
compute <- import("pyarrow.compute", convert = FALSE)
builtins <- import_builtins(convert = FALSE)

adbc <- function(account = "researcher", ..., uri = paste0("grpc://", address), autocommit = TRUE) {
  flightsql$connect(uri, db_kwargs = dict(username = account, password = paste0(account, "-demo"), ...),
                    autocommit = autocommit)
}

# An Arrow table as a data frame. Values travel as text, which R makes its types of: that keeps 64 bits,
# and NA where SQL has NULL.
frame <- function(table) {
  column <- function(i) {
    kind <- py_to_r(builtins$str(table$schema$field(i)$type))
    coded <- startsWith(kind, "dictionary")
    texts <- py_to_r(table$column(i)$cast(pa$string())$to_pylist())
    texts <- vapply(texts, function(one) if (is.null(one)) NA_character_ else one, "", USE.NAMES = FALSE)
    if (coded) return(factor(texts))
    switch(sub("[[(].*", "", kind),
      int8 = , int16 = , int32 = , uint8 = , uint16 = as.integer(texts),
      int64 = bit64::as.integer64(texts), uint32 = , float = , double = as.numeric(texts),
      bool = texts == "true", date32 = as.Date(texts), decimal128 = texts,
      timestamp = as.POSIXct(sub("Z$", "", texts), tz = "UTC"), texts)
  }
  columns <- lapply(seq_len(py_to_r(table$num_columns)) - 1L, column)
  names(columns) <- py_to_r(table$column_names)
  structure(columns, class = "data.frame", row.names = seq_len(py_to_r(table$num_rows)))
}

# The result of a query, with what its markers stand for.
adbc_query <- function(connection, sql, ...) {
  cursor <- connection$cursor()
  on.exit(cursor$close())
  cursor$execute(sql, if (...length() > 0) tuple(...))
  frame(cursor$fetch_arrow_table())
}

adbc_change <- function(connection, sql, ...) {
  cursor <- connection$cursor()
  on.exit(cursor$close())
  cursor$execute(sql, if (...length() > 0) tuple(...))
  py_to_r(cursor$rowcount)
}
