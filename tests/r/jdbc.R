# A driver of DBI over the JDBC driver, by rJava: what RJDBC does, which Debian does not have. It knows
# no dialect; what it sends is SQL with `?`.

library(DBI)
library(rJava)
.jinit(Sys.getenv("HUBFLIGHT_JAR"), parameters = c(
  "--add-opens=java.base/java.nio=ALL-UNNAMED", "-Duser.timezone=UTC", "-Djava.util.logging.config.file=logging.properties"))

setClass("HubDriver", contains = "DBIDriver")
setClass("HubConnection", contains = "DBIConnection", slots = c(java = "jobjRef"))
# `state` has the open rows (NULL after a change), the count of a change and how many rows were read.
setClass("HubResult", contains = "DBIResult", slots = c(statement = "jobjRef", sql = "character", state = "environment"))

hub_jdbc <- function() new("HubDriver")

setMethod("dbConnect", "HubDriver", function(drv, url, user = NULL, password = NULL, ...) {
  properties <- .jnew("java.util.Properties")
  if (!is.null(user)) properties$setProperty("user", user)
  if (!is.null(password)) properties$setProperty("password", password)
  driver <- .jnew("org.apache.arrow.driver.jdbc.ArrowFlightJdbcDriver")
  new("HubConnection", java = .jcall(driver, "Ljava/sql/Connection;", "connect", url, properties))
})

setMethod("dbDisconnect", "HubConnection", function(conn, ...) {
  conn@java$close()
  invisible(TRUE)
})

setMethod("dbIsValid", "HubConnection", function(dbObj, ...) !dbObj@java$isClosed())

# Rows of DatabaseMetaData, as text.
described <- function(rows) {
  meta <- rows$getMetaData()
  names <- vapply(seq_len(meta$getColumnCount()), function(i) meta$getColumnLabel(i), "")
  found <- list()
  while (rows$`next`()) {
    found[[length(found) + 1]] <- vapply(seq_along(names), function(i) {
      value <- .jcall(rows, "S", "getString", i)
      if (is.null(value)) NA_character_ else value
    }, "")
  }
  rows$close()
  structure(as.data.frame(do.call(rbind, c(list(character(length(names))), found)))[-1, , drop = FALSE], names = names)
}

java_text <- function(value) if (is.null(value)) .jnull("java/lang/String") else .jnew("java/lang/String", enc2utf8(value))

setMethod("dbListTables", "HubConnection", function(conn, schema = NULL, ...) {
  kinds <- .jnull("[Ljava/lang/String;")
  described(conn@java$getMetaData()$getTables(java_text(NULL), java_text(schema), java_text("%"), kinds))$TABLE_NAME
})

setMethod("dbListFields", signature("HubConnection", "character"), function(conn, name, schema = NULL, ...) {
  described(conn@java$getMetaData()$getColumns(java_text(NULL), java_text(schema), java_text(name), java_text("%")))$COLUMN_NAME
})

setMethod("dbExistsTable", signature("HubConnection", "character"), function(conn, name, schema = NULL, ...) {
  name %in% dbListTables(conn, schema = schema)
})

# One value of each kind that R has; NA is NULL.
bind_value <- function(statement, i, value) {
  types <- J("java.sql.Types")
  if (is.factor(value)) value <- as.character(value)
  if (is.na(value)) {
    statement$setNull(i, if (is.numeric(value)) types$DOUBLE else types$VARCHAR)
  } else if (inherits(value, "Date")) {
    statement$setDate(i, J("java.sql.Date")$valueOf(format(value)))
  } else if (inherits(value, "integer64")) {
    # R has no long: Java reads it from its text.
    long <- .jnew("java/lang/Long", as.character(value))
    .jcall(statement, "V", "setObject", i, .jcast(long, "java/lang/Object"))
  } else if (is.logical(value)) {
    statement$setBoolean(i, value)
  } else if (is.integer(value)) {
    statement$setInt(i, value)
  } else if (is.numeric(value)) {
    statement$setDouble(i, value)
  } else {
    statement$setString(i, enc2utf8(value))
  }
}

# The driver puts the server's text into the cause of its own error.
causes <- function(condition) {
  error <- condition$jobj
  said <- character()
  while (!is.null(error)) {
    said <- c(said, error$getMessage())
    error <- error$getCause()
  }
  stop(paste(said, collapse = ": "), call. = FALSE)
}

send <- function(conn, statement, change, params) {
  prepared <- tryCatch(conn@java$prepareStatement(enc2utf8(as.character(statement))), SQLException = causes)
  result <- new("HubResult", statement = prepared, sql = as.character(statement), state = new.env())
  result@state$change <- change
  if (is.null(params) && prepared$getParameterMetaData()$getParameterCount() > 0L) return(result)
  tryCatch(if (is.null(params)) run(result) else dbBind(result, params), error = function(condition) {
    prepared$close()
    stop(condition)
  })
  result
}

run <- function(result) {
  result@state$rows <- result@state$count <- NULL
  if (result@state$change) {
    result@state$count <- result@statement$executeUpdate()
  } else {
    result@state$rows <- result@statement$executeQuery()
  }
}

setMethod("dbSendQuery", signature("HubConnection", "character"), function(conn, statement, params = NULL, ...) {
  send(conn, statement, FALSE, params)
})
setMethod("dbSendStatement", signature("HubConnection", "character"), function(conn, statement, params = NULL, ...) {
  send(conn, statement, TRUE, params)
})

# Several rows of values for a change are one batch.
setMethod("dbBind", "HubResult", function(res, params, ...) {
  count <- length(params[[1]])
  for (row in seq_len(count)) {
    for (i in seq_along(params)) bind_value(res@statement, i, params[[i]][row])
    if (count > 1) res@statement$addBatch()
  }
  if (count > 1) res@state$count <- sum(res@statement$executeBatch()) else run(res)
  invisible(res)
})

# How R reads a column of a JDBC type: text, and what becomes of it.
readers <- list(
  `-6` = as.integer, `5` = as.integer, `4` = as.integer, `-5` = function(text) bit64::as.integer64(text),
  `6` = as.numeric, `7` = as.numeric, `8` = as.numeric, `16` = function(text) text == "true",
  `91` = function(text) as.Date(text), `93` = function(text) as.POSIXct(text, tz = "UTC"))

setMethod("dbColumnInfo", "HubResult", function(res, ...) {
  meta <- res@statement$getMetaData()
  columns <- seq_len(meta$getColumnCount())
  data.frame(name = vapply(columns, function(i) meta$getColumnLabel(i), ""),
             type = vapply(columns, function(i) meta$getColumnType(i), 0L),
             sql = vapply(columns, function(i) meta$getColumnTypeName(i), ""))
})

setMethod("dbFetch", "HubResult", function(res, n = -1, ...) {
  rows <- res@state$rows
  info <- dbColumnInfo(res)
  found <- vector("list", 1000)
  count <- 0
  while ((n < 0 || count < n) && !(res@state$done <- !rows$`next`())) {
    count <- count + 1
    found[[count]] <- vapply(seq_len(nrow(info)), function(i) {
      value <- .jcall(rows, "S", "getString", i)
      if (is.null(value)) NA_character_ else value
    }, "")
  }
  columns <- lapply(seq_len(nrow(info)), function(i) {
    texts <- vapply(found[seq_len(count)], function(row) row[i], "")
    reader <- readers[[as.character(info$type[i])]]
    if (is.null(reader)) texts else reader(texts)
  })
  structure(columns, names = info$name, class = "data.frame", row.names = seq_len(count))
})

setMethod("dbHasCompleted", "HubResult", function(res, ...) is.null(res@state$rows) || isTRUE(res@state$done))
setMethod("dbGetRowsAffected", "HubResult", function(res, ...) res@state$count)
setMethod("dbGetStatement", "HubResult", function(res, ...) res@sql)
setMethod("dbClearResult", "HubResult", function(res, ...) {
  if (!is.null(res@state$rows)) res@state$rows$close()
  res@statement$close()
  invisible(TRUE)
})

kind_of <- function(column) {
  if (inherits(column, "Date")) "DATE"
  else if (inherits(column, "integer64")) "BIGINT"
  else if (is.logical(column)) "BOOLEAN"
  else if (is.integer(column)) "INT"
  else if (is.numeric(column)) "DOUBLE"
  else "VARCHAR"
}

setMethod("dbWriteTable", signature("HubConnection", "character", "data.frame"),
  function(conn, name, value, overwrite = FALSE, append = FALSE, ...) {
    names <- as.character(dbQuoteIdentifier(conn, names(value)))
    # The type of a factor is that of its texts.
    kinds <- vapply(value, function(column) if (is.factor(column)) "VARCHAR" else kind_of(column), "")
    table <- paste0("space.", dbQuoteIdentifier(conn, name))
    if (!append) {
      dbExecute(conn, paste0("CREATE ", if (overwrite) "OR REPLACE ", "TABLE ", table, " (", paste(names, kinds, collapse = ", "), ")"))
    }
    marks <- paste(rep("?", length(names)), collapse = ", ")
    dbExecute(conn, paste0("INSERT INTO ", table, " (", paste(names, collapse = ", "), ") VALUES (", marks, ")"), params = unname(as.list(value)))
    invisible(TRUE)
  })

setMethod("dbRemoveTable", signature("HubConnection", "character"), function(conn, name, ...) {
  dbExecute(conn, paste0("DROP TABLE space.", dbQuoteIdentifier(conn, name)))
  invisible(TRUE)
})
