# R by reticulate and Python's ADBC driver.

source("adbc.R")

connection <- adbc()

test("adbc: a password connects", equal(adbc_query(connection, "SELECT 'é' AS e"), data.frame(e = "é")))

test("adbc: a token connects", {
  token <- adbc_query(connection, "CALL hub.create_token('r', 1)")$token
  with_token <- flightsql$connect(paste0("grpc://", address), autocommit = TRUE, db_kwargs = dict(
    "adbc.flight.sql.authorization_header" = paste("Bearer", token)))
  equal(adbc_query(with_token, "SELECT 1 AS one")$one, bit64::as.integer64(1))
  with_token$close()
})

test("adbc: TLS with the authority", {
  pem <- paste(readLines(tls_authority), collapse = "\n")
  tls <- adbc(uri = paste0("grpc+tls://", tls_address), "adbc.flight.sql.client_option.tls_root_certs" = pem)
  equal(adbc_query(tls, "SELECT true AS secret")$secret, TRUE)
  tls$close()
  refused("certificate", adbc(uri = paste0("grpc+tls://", tls_address)))
})

test("adbc: tables and columns are listed", {
  objects <- py_to_r(connection$adbc_get_objects(depth = "tables", db_schema_filter = "snds")$read_all()$to_pylist())
  equal(length(objects), 1L)
  equal(objects[[1]]$catalog_name, "readmission")
  tables <- vapply(objects[[1]]$catalog_db_schemas[[1]]$db_schema_tables, function(table) table$table_name, "")
  stopifnot(c("er_prs_f", "ir_ben_r", "t_mco_b") %in% tables)
  schema <- connection$adbc_get_table_schema("t_mco_b", db_schema_filter = "snds")
  equal(py_to_r(builtins$str(schema$field("ent_dat")$type)), "date32[day]")
})

test("adbc: queries are data frames", {
  found <- adbc_query(connection, "SELECT dgn_pal, count(*) AS n, min(ent_dat) AS first FROM snds.t_mco_b GROUP BY 1 ORDER BY 1")
  equal(names(found), c("dgn_pal", "n", "first"))
  equal(sum(found$n), adbc_query(connection, "SELECT count(*) AS n FROM snds.t_mco_b")$n)
  stopifnot(inherits(found$first, "Date"), nrow(found) > 10, !is.unsorted(found$dgn_pal))
})

test("adbc: many rows come whole", {
  found <- adbc_query(connection, "SELECT n, n % 7 AS k FROM generate_series(1, 200000) AS s(n)")
  equal(nrow(found), 200000L)
  equal(sum(found$n), bit64::as.integer64(20000100000))
})

test("adbc: parameters", {
  sql <- "SELECT count(*) AS n FROM snds.t_mco_b WHERE dgn_pal LIKE ? AND ent_dat > ?"
  day <- import("datetime")$date(2000L, 1L, 1L)
  expected <- adbc_query(connection, "SELECT count(*) AS n FROM snds.t_mco_b WHERE dgn_pal LIKE 'I%'")
  equal(adbc_query(connection, sql, "I%", day), expected)
  equal(adbc_query(connection, "SELECT $1 AS a, $2 AS b", 1.5, "l'été")[1, ], data.frame(a = 1.5, b = "l'été"))
  refused("parameter", adbc_query(connection, sql, "I%"))
})

test("adbc: many rows of parameters", {
  cursor <- connection$cursor()
  cursor$execute("CREATE OR REPLACE TABLE space.r_many (a BIGINT, b VARCHAR)")
  rows <- lapply(1:50, function(i) tuple(i, if (i %% 5 == 0) NULL else paste0("é", i)))
  cursor$executemany("INSERT INTO space.r_many VALUES (?, ?)", rows)
  equal(py_to_r(cursor$rowcount), 50L)
  kept <- adbc_query(connection, "SELECT * FROM space.r_many ORDER BY a")
  equal(sum(is.na(kept$b)), 10L)
  equal(kept$b[c(1, 5)], c("é1", NA))
  cursor$execute("DROP TABLE space.r_many")
})

test("adbc: changes are counted", {
  adbc_change(connection, "CREATE OR REPLACE TABLE space.r_counts (a INT)")
  equal(adbc_change(connection, "INSERT INTO space.r_counts VALUES (1), (2), (3)"), 3L)
  equal(adbc_change(connection, "UPDATE space.r_counts SET a = a + 10 WHERE a > ?", 1L), 2L)
  equal(adbc_change(connection, "DELETE FROM space.r_counts WHERE a > 100"), 0L)
  equal(adbc_query(connection, "SELECT a FROM space.r_counts ORDER BY a")$a, c(1L, 12L, 13L))
  adbc_change(connection, "DROP TABLE space.r_counts")
})

test("adbc: a data frame becomes a table", {
  sent <- data.frame(code = c("I50", "J44", NA), n = c(1L, NA, 3L), x = c(0.1, NA, Inf), day = as.Date(c("2024-02-29", NA, "1900-01-01")))
  as_arrow <- function(values) {
    # A list, for a vector of one would be a scalar; NULL where R has NA.
    values <- lapply(values, function(one) if (is.na(one)) NULL else one)
    names(values) <- NULL
    pa$array(values)
  }
  days <- lapply(as.integer(sent$day), function(one) if (is.na(one)) NULL else one)
  table <- pa$table(dict(code = as_arrow(sent$code), n = as_arrow(sent$n), x = as_arrow(sent$x),
                         day = pa$array(days, pa$int32())$cast(pa$date32())))
  cursor <- connection$cursor()
  equal(py_to_r(cursor$adbc_ingest("r_frame", table, mode = "replace", db_schema_name = "space")), 3L)
  kept <- adbc_query(connection, "SELECT code, CAST(n AS INT) AS n, x, day FROM space.r_frame ORDER BY n NULLS FIRST")
  expected <- sent[c(2, 1, 3), ]
  rownames(expected) <- NULL
  equal(kept, expected)
  equal(py_to_r(cursor$adbc_ingest("r_frame", table, mode = "append", db_schema_name = "space")), 3L)
  refused("exists already", cursor$adbc_ingest("r_frame", table, mode = "create", db_schema_name = "space"))
  cursor$execute("DROP TABLE space.r_frame")
})

test("adbc: types", {
  one <- adbc_query(connection, "SELECT CAST(-2147483647 AS INT) AS i, 9223372036854775807 AS big,
    CAST('-1234567890123456789012345678.0123456789' AS DECIMAL(38,10)) AS dec, 0.1 AS x, DATE '2024-02-29' AS day,
    TIMESTAMP '1969-12-31T23:59:59.5' AS ts, CAST('2024-07-01T12:00:00Z' AS TIMESTAMP WITH TIME ZONE) AS moment,
    TIME '12:34:56.789' AS tim, true AS yes, arrow_cast('é', 'Dictionary(Int32, Utf8)') AS coded")
  # One below is R's NA.
  equal(one$i, -2147483647L)
  equal(as.character(one$big), "9223372036854775807")
  equal(one$dec, "-1234567890123456789012345678.0123456789")
  equal(one$x, 0.1)
  equal(one$day, as.Date("2024-02-29"))
  equal(as.numeric(one$ts), -0.5)
  equal(as.numeric(one$moment), 1719835200)
  equal(substr(one$tim, 1, 12), "12:34:56.789")
  equal(one$yes, TRUE)
  equal(one$coded, "é")
})

test("adbc: NULL is NA of each type", {
  kinds <- c(i = "INT", big = "BIGINT", x = "DOUBLE", dec = "DECIMAL(12,2)", txt = "VARCHAR", yes = "BOOLEAN", day = "DATE", ts = "TIMESTAMP")
  one <- adbc_query(connection, paste("SELECT", paste(sprintf("CAST(NULL AS %s) AS %s", kinds, names(kinds)), collapse = ", ")))
  stopifnot(vapply(one, is.na, NA))
  equal(unname(vapply(one, function(column) class(column)[1], "")),
        c("integer", "integer64", "numeric", "character", "character", "logical", "Date", "POSIXct"))
  # A number that is none is not missing in SQL.
  equal(is.nan(adbc_query(connection, "SELECT CAST('NaN' AS DOUBLE) AS x")$x), TRUE)
})

test("adbc: dictionaries are factors", {
  cursor <- connection$cursor()
  factors <- pa$table(dict(sex = pa$array(list("f", "m", "f", NULL))$dictionary_encode()))
  cursor$adbc_ingest("r_factors", factors, mode = "replace", db_schema_name = "space")
  kept <- adbc_query(connection, "SELECT sex FROM space.r_factors ORDER BY sex")
  # Stored as text; a factor again where R wants one.
  equal(factor(kept$sex), factor(c("f", "f", "m", NA)))
  equal(levels(frame(factors)$sex), c("f", "m"))
  cursor$execute("DROP TABLE space.r_factors")
})

test("adbc: accents in names and data", {
  adbc_change(connection, "CREATE OR REPLACE TABLE space.\"r_été\" (\"prénom\" VARCHAR, \"Âge\" INT)")
  adbc_change(connection, "INSERT INTO space.\"r_été\" VALUES (?, ?)", "Zoé", 7L)
  kept <- adbc_query(connection, "SELECT * FROM space.\"r_été\"")
  equal(names(kept), c("prénom", "Âge"))
  equal(kept$prénom, "Zoé")
  adbc_change(connection, "DROP TABLE space.\"r_été\"")
})

test("adbc: transactions", {
  own <- adbc(autocommit = FALSE)
  adbc_change(own, "CREATE TABLE space.r_transaction (a INT)")
  own$rollback()
  gone <- tryCatch({
    adbc_query(connection, "SELECT * FROM space.r_transaction")
    FALSE
  }, error = function(error) TRUE)
  equal(gone, TRUE)
  adbc_change(own, "CREATE TABLE space.r_transaction (a INT)")
  own$commit()
  equal(nrow(adbc_query(connection, "SELECT * FROM space.r_transaction")), 0L)
  own$close()
  adbc_change(connection, "DROP TABLE space.r_transaction")
})

slow <- "SELECT count(*) FROM generate_series(1, 100000000000) AS a(n) WHERE n % 7 = 3"

test("adbc: a cancel ends the statement", {
  cursor <- connection$cursor()
  cursor$execute(slow)
  cursor$adbc_cancel()
  refused("ancel", cursor$fetch_arrow_table())
  cursor$close()
  equal(adbc_query(connection, "SELECT 1 AS one")$one, bit64::as.integer64(1))
})

test("adbc: a time-out ends the statement", {
  cursor <- connection$cursor()
  cursor$adbc_statement$set_options("adbc.flight.sql.rpc.timeout_seconds.fetch" = "0.5")
  cursor$execute(slow)
  started <- Sys.time()
  told <- refused("", cursor$fetch_arrow_table())
  # Client and server watch the same deadline; either may be the first to tell.
  stopifnot(grepl("deadline exceeded|took longer|timeout", told, ignore.case = TRUE))
  stopifnot(Sys.time() - started < 5)
  cursor$close()
})

test("adbc: session options", {
  own <- adbc("consultant", "adbc.flight.sql.rpc.call_header.catalog" = "readmission")
  own$adbc_connection$set_options("adbc.flight.sql.session.option.time_zone" = "Europe/Paris",
                                  "adbc.connection.db_schema" = "snds")
  stopifnot(adbc_query(own, "SELECT count(*) AS n FROM t_mco_b")$n > 0)
  equal(py_to_r(own$adbc_connection$get_option("adbc.flight.sql.session.option.time_zone")), "Europe/Paris")
  refused("invalid value", own$adbc_connection$set_options("adbc.flight.sql.session.option.time_zone" = "Mars"))
  own$close()
})

test("adbc: errors say what and where", {
  refused("column `nothing` does not exist", adbc_query(connection, "SELECT nothing FROM snds.t_mco_b"))
  refused("table `snds.nothing` does not exist", adbc_query(connection, "SELECT * FROM snds.nothing"))
  refused("UNAUTHENTICATED", flightsql$connect(paste0("grpc://", address), db_kwargs = dict(username = "nobody", password = "x")))
  refused("aggregates", adbc_query(adbc("epidemiologist"), "SELECT ben_idt FROM snds.t_mco_b"))
})

connection$close()
