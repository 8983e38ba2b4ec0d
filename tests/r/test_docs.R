# The R of docs/clients.md runs as it stands, in a process of its own, against the test's server; each block
# ends by printing TRUE.

page <- readLines("../../docs/clients.md", encoding = "UTF-8")
starts <- grep("^```r$", page)
ends <- grep("^```$", page)
stopifnot(length(starts) > 2)

for (start in starts) {
  code <- page[seq(start + 1, min(ends[ends > start]) - 1)]
  wanted <- sub(".*library\\(([a-zA-Z0-9.]+)\\).*", "\\1", grep("library\\(", code, value = TRUE))
  test(paste("docs:", paste(wanted, collapse = ", ")), {
    parse(text = code)
    stopifnot(any(grepl("127.0.0.1:31337", code, fixed = TRUE)))
    absent <- wanted[!vapply(wanted, requireNamespace, NA, quietly = TRUE)]
    if (length(absent) > 0) {
      # tests/python/test_adbi.py does what it does.
      equal(absent, "adbcdrivermanager")
      skip(paste("client: Debian has no", absent))
    }
    code <- gsub("127.0.0.1:31337", address, code, fixed = TRUE)
    code <- gsub("/path/to/flight-sql-jdbc-driver-18.3.0.jar", Sys.getenv("HUBFLIGHT_JAR"), code, fixed = TRUE)
    file <- tempfile(fileext = ".R")
    writeLines(code, file, useBytes = TRUE)
    said <- system2("Rscript", c("--vanilla", file), stdout = TRUE, stderr = FALSE,
                    env = paste0("RETICULATE_PYTHON=", Sys.getenv("HUBFLIGHT_PYTHON")))
    # What else a block's lines give is printed too, as R does.
    equal(attr(said, "status"), NULL)
    equal(tail(as.character(said), 1), "[1] TRUE")
    equal(grep("FALSE", said, value = TRUE), character())
  })
}
