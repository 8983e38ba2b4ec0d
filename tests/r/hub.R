# What the tests of R share: where the servers are, assertions, and the list of what came out.

address <- Sys.getenv("HUBFLIGHT_ADDRESS")
tls_address <- Sys.getenv("HUBFLIGHT_TLS_ADDRESS")
tls_authority <- Sys.getenv("HUBFLIGHT_TLS_AUTHORITY")
if (address == "") stop("HUBFLIGHT_ADDRESS names no server; start these tests with tests/r/run")

outcomes <- list()

# Runs a test and notes how it ended; `skip` ends it with a reason.
test <- function(name, code) {
  code <- substitute(code)
  own <- new.env(parent = parent.frame())
  started <- Sys.time()
  outcome <- tryCatch({
    eval(code, own)
    "pass"
  }, skip = function(condition) conditionMessage(condition),
  error = function(condition) paste("fail:", conditionMessage(condition), "in", deparse(conditionCall(condition))[1]))
  outcomes[[name]] <<- outcome
  seconds <- as.numeric(Sys.time() - started, units = "secs")
  cat(if (outcome == "pass") "ok  " else "    ", sprintf("%5.1f s  ", seconds), name, if (outcome != "pass") paste0(": ", outcome), "\n", sep = "")
}

skip <- function(reason) stop(structure(class = c("skip", "condition"), list(message = reason, call = NULL)))

equal <- function(got, want) {
  if (!identical(got, want)) {
    stop("got ", paste(deparse(got), collapse = " "), ", want ", paste(deparse(want), collapse = " "))
  }
}

# The text of the error that code must end with, which has to contain `text`.
refused <- function(text, code) {
  told <- tryCatch({
    force(code)
    NULL
  }, error = conditionMessage)
  if (is.null(told)) stop("it was not refused")
  if (!grepl(text, told, fixed = TRUE)) stop("refused with: ", told)
  told
}

quoted <- function(text) {
  text <- gsub("[[:cntrl:]]", " ", gsub('"', '\\"', gsub("\\", "\\\\", text, fixed = TRUE), fixed = TRUE))
  paste0('"', text, '"')
}

# Writes test → `pass` or a reason, and fails where a test did.
finish <- function() {
  lines <- sprintf("  %s: %s", quoted(names(outcomes)), quoted(unlist(outcomes)))
  writeLines(c("{", paste(lines, collapse = ",\n"), "}"), Sys.getenv("HUBFLIGHT_MATRIX"), useBytes = TRUE)
  failed <- sum(startsWith(unlist(outcomes), "fail:"))
  cat(sprintf("%d tests of R, %d failed\n", length(outcomes), failed))
  if (failed > 0) quit(status = 1)
}
