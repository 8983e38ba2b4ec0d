# R over JDBC: rJava, DBI and the driver that DBeaver loads.

source("jdbc.R")

jdbc_url <- function(parameters = "") paste0("jdbc:arrow-flight-sql://", address, "/?useEncryption=false", parameters)
jdbc <- function(account = "researcher", parameters = "") {
  dbConnect(hub_jdbc(), jdbc_url(parameters), account, paste0(account, "-demo"))
}

hub <- jdbc()
one <- function(conn, sql, ...) dbGetQuery(conn, sql, ...)[[1]]

test("jdbc: a password connects", equal(one(hub, "SELECT 'é' AS e"), "é"))

test("jdbc: a token connects", {
  token <- dbGetQuery(hub, "CALL hub.create_token('r jdbc', 1)")$token
  with_token <- dbConnect(hub_jdbc(), jdbc_url(paste0("&token=", token)))
  equal(one(with_token, "SELECT 7"), bit64::as.integer64(7))
  dbDisconnect(with_token)
})

test("jdbc: TLS with the authority", {
  tls <- paste0("jdbc:arrow-flight-sql://", tls_address, "/?tlsRootCerts=", tls_authority)
  secret <- dbConnect(hub_jdbc(), tls, "researcher", "researcher-demo")
  equal(one(secret, "SELECT true"), TRUE)
  dbDisconnect(secret)
  refused("UNAVAILABLE", dbConnect(hub_jdbc(), paste0("jdbc:arrow-flight-sql://", tls_address, "/"), "researcher", "researcher-demo"))
})

test("jdbc: tables and fields are listed", {
  tables <- dbListTables(hub, schema = "snds")
  stopifnot(c("er_prs_f", "ir_ben_r", "t_mco_b") %in% tables, dbExistsTable(hub, "t_mco_b", schema = "snds"))
  equal(dbExistsTable(hub, "nothing", schema = "snds"), FALSE)
  equal(dbListFields(hub, "ir_cim_v", schema = "snds"), names(dbGetQuery(hub, "SELECT * FROM snds.ir_cim_v LIMIT 0")))
})

test("jdbc: queries are data frames", {
  found <- dbGetQuery(hub, "SELECT dgn_pal, count(*) AS n, min(ent_dat) AS first FROM snds.t_mco_b GROUP BY 1 ORDER BY 1")
  equal(names(found), c("dgn_pal", "n", "first"))
  equal(sum(found$n), one(hub, "SELECT count(*) FROM snds.t_mco_b"))
  stopifnot(inherits(found$first, "Date"), nrow(found) > 10)
  equal(dim(dbGetQuery(hub, "SELECT 1 AS a, 'x' AS b WHERE false")), c(0L, 2L))
})

test("jdbc: rows are fetched in parts", {
  result <- dbSendQuery(hub, "SELECT n FROM generate_series(1, 1500) AS s(n)")
  first <- dbFetch(result, n = 1000)
  equal(c(nrow(first), dbHasCompleted(result)), c(1000L, 0L))
  rest <- dbFetch(result)
  equal(dbHasCompleted(result), TRUE)
  dbClearResult(result)
  equal(sum(first$n) + sum(rest$n), bit64::as.integer64(1500 * 1501 / 2))
})

test("jdbc: the driver describes columns", {
  result <- dbSendQuery(hub, "SELECT ben_idt, exe_soi_dtd, prs_nat_ref, prs_pai_mnt FROM snds.er_prs_f LIMIT 1")
  equal(dbColumnInfo(result)$sql, c("VARCHAR", "DATE", "INTEGER", "DECIMAL"))
  dbClearResult(result)
})

test("jdbc: parameters", {
  sql <- "SELECT count(*) AS n FROM snds.t_mco_b WHERE dgn_pal LIKE ? AND ent_dat > ?"
  expected <- one(hub, "SELECT count(*) FROM snds.t_mco_b WHERE dgn_pal LIKE 'I%'")
  equal(one(hub, sql, params = list("I%", as.Date("2000-01-01"))), expected)
  equal(one(hub, sql, params = list("I%", as.Date(NA))), bit64::as.integer64(0))
  equal(one(hub, "SELECT CAST(? AS BIGINT)", params = list(bit64::as.integer64("9007199254740993"))), bit64::as.integer64("9007199254740993"))
  result <- dbSendQuery(hub, "SELECT CAST(? AS VARCHAR) AS a")
  for (text in c("l'été", "' OR 1=1 --")) {
    dbBind(result, list(text))
    equal(dbFetch(result)$a, text)
  }
  dbClearResult(result)
})

test("jdbc: changes are counted", {
  dbExecute(hub, "CREATE OR REPLACE TABLE space.r_jdbc_counts (a INT)")
  equal(dbExecute(hub, "INSERT INTO space.r_jdbc_counts VALUES (1), (2), (3)"), 3L)
  equal(dbExecute(hub, "UPDATE space.r_jdbc_counts SET a = a + 10 WHERE a > ?", params = list(1L)), 2L)
  equal(dbExecute(hub, "DELETE FROM space.r_jdbc_counts WHERE a > 100"), 0L)
  equal(sort(one(hub, "SELECT a FROM space.r_jdbc_counts")), c(1L, 12L, 13L))
  dbRemoveTable(hub, "r_jdbc_counts")
})

test("jdbc: a data frame becomes a table", {
  sent <- data.frame(code = c("I50", "J44", NA, "é"), n = c(1L, NA, 3L, -5L), x = c(0.1, NA, Inf, -1e300),
                     day = as.Date(c("2024-02-29", NA, "1900-01-01", "9999-12-31")), yes = c(TRUE, NA, FALSE, TRUE))
  sent$big <- bit64::as.integer64(c("9223372036854775807", NA, "0", "-9223372036854775807"))
  sent$sex <- factor(c("f", "m", NA, "f"))
  dbWriteTable(hub, "r_jdbc_frame", sent, overwrite = TRUE)
  kept <- dbGetQuery(hub, "SELECT * FROM space.r_jdbc_frame ORDER BY code NULLS LAST")
  expected <- sent[c(1, 2, 4, 3), ]
  rownames(expected) <- NULL
  kept$sex <- factor(kept$sex)
  equal(kept[-6], expected[-6])
  equal(as.character(kept$big), as.character(expected$big))
  dbWriteTable(hub, "r_jdbc_frame", sent[1:2, ], append = TRUE)
  equal(one(hub, "SELECT count(*) FROM space.r_jdbc_frame"), bit64::as.integer64(6))
  refused("exists already", dbWriteTable(hub, "r_jdbc_frame", sent))
  dbRemoveTable(hub, "r_jdbc_frame")
})

test("jdbc: many rows of parameters are one batch", {
  dbExecute(hub, "CREATE OR REPLACE TABLE space.r_jdbc_many (a INT, b VARCHAR)")
  equal(dbExecute(hub, "INSERT INTO space.r_jdbc_many VALUES (?, ?)", params = list(1:100, paste0("é", 1:100))), 100L)
  equal(one(hub, "SELECT count(DISTINCT b) FROM space.r_jdbc_many"), bit64::as.integer64(100))
  dbRemoveTable(hub, "r_jdbc_many")
})

test("jdbc: types", {
  found <- dbGetQuery(hub, "SELECT CAST(-2147483647 AS INT) AS i, 9223372036854775807 AS big,
    CAST('-1234567890123456789012345678.0123456789' AS DECIMAL(38,10)) AS dec, 0.1 AS x, DATE '2024-02-29' AS day,
    TIMESTAMP '1969-12-31T23:59:59.5' AS ts, TIME '12:34:56' AS tim, true AS yes,
    arrow_cast('é', 'Dictionary(Int32, Utf8)') AS coded, CAST('NaN' AS DOUBLE) AS nan")
  equal(found$i, -2147483647L)
  equal(as.character(found$big), "9223372036854775807")
  equal(found$dec, "-1234567890123456789012345678.0123456789")
  equal(found$x, 0.1)
  equal(found$day, as.Date("2024-02-29"))
  equal(as.numeric(found$ts), -0.5)
  equal(found$tim, "12:34:56")
  equal(found$yes, TRUE)
  equal(found$coded, "é")
  equal(is.nan(found$nan), TRUE)
})

test("jdbc: NULL is NA of each type", {
  kinds <- c(i = "INT", big = "BIGINT", x = "DOUBLE", dec = "DECIMAL(12,2)", txt = "VARCHAR", yes = "BOOLEAN", day = "DATE", ts = "TIMESTAMP")
  found <- dbGetQuery(hub, paste("SELECT", paste(sprintf("CAST(NULL AS %s) AS %s", kinds, names(kinds)), collapse = ", ")))
  stopifnot(vapply(found, is.na, NA))
  equal(unname(vapply(found, function(column) class(column)[1], "")),
        c("integer", "integer64", "numeric", "character", "character", "logical", "Date", "POSIXct"))
})

test("jdbc: accents in names and data", {
  dbWriteTable(hub, "r_jdbc_été", data.frame(`prénom` = "Zoé", `Âge` = 7L, check.names = FALSE), overwrite = TRUE)
  kept <- dbGetQuery(hub, "SELECT * FROM space.\"r_jdbc_été\"")
  equal(kept, data.frame(`prénom` = "Zoé", `Âge` = 7L, check.names = FALSE))
  stopifnot("r_jdbc_été" %in% dbListTables(hub, schema = "space"))
  dbRemoveTable(hub, "r_jdbc_été")
})

slow <- "SELECT count(*) FROM generate_series(1, 100000000000) AS a(n) WHERE n % 7 = 3"

test("jdbc: a time-out ends the statement", {
  statement <- hub@java$createStatement()
  statement$setQueryTimeout(1L)
  started <- Sys.time()
  refused("timed out", statement$executeQuery(slow))
  stopifnot(Sys.time() - started < 5)
  statement$close()
})

test("jdbc: a cancel while reading ends the statement", {
  statement <- hub@java$createStatement()
  rows <- statement$executeQuery("SELECT a.* FROM snds.er_prs_f a, snds.er_prs_f b")
  stopifnot(rows$`next`())
  statement$cancel()
  refused("cancel", while (rows$`next`()) NULL)
  statement$close()
  equal(one(hub, "SELECT 1"), bit64::as.integer64(1))
})

test("jdbc: the catalog is an option of the url", {
  elsewhere <- jdbc("consultant", "&catalog=readmission")
  stopifnot(one(elsewhere, "SELECT count(*) FROM snds.t_mco_b") > 0)
  # Driver 18.3 closes its client twice where a catalog was chosen; the session has ended by then.
  refused("Channel shutdown invoked", dbDisconnect(elsewhere))
})

test("jdbc: errors say what and where", {
  refused("column `nothing` does not exist", dbGetQuery(hub, "SELECT nothing FROM snds.t_mco_b"))
  refused("table `snds.nothing` does not exist", dbGetQuery(hub, "SELECT * FROM snds.nothing"))
  refused("aggregates", dbGetQuery(jdbc("epidemiologist"), "SELECT ben_idt FROM snds.t_mco_b"))
  refused("UNAUTHENTICATED", dbConnect(hub_jdbc(), jdbc_url(), "nobody", "x"))
  stopifnot(dbIsValid(hub))
})

# Driver: `commit` and `rollback` are stubs that say nothing.
test("jdbc: a roll back rolls nothing back", {
  dbExecute(hub, "CREATE OR REPLACE TABLE space.r_jdbc_kept (a INT)")
  tryCatch(hub@java$setAutoCommit(FALSE), error = function(condition) NULL)
  dbExecute(hub, "INSERT INTO space.r_jdbc_kept VALUES (1)")
  hub@java$rollback()
  tryCatch(hub@java$setAutoCommit(TRUE), error = function(condition) NULL)
  equal(one(hub, "SELECT count(*) FROM space.r_jdbc_kept"), bit64::as.integer64(1))
  dbRemoveTable(hub, "r_jdbc_kept")
})
