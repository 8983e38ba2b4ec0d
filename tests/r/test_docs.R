# The R of docs/clients.md runs as it stands, against the test's server; each block says TRUE.

page <- readLines("../../docs/clients.md", encoding = "UTF-8")
starts <- grep("^```r$", page)
ends <- grep("^```$", page)

for (start in starts) {
  code <- page[seq(start + 1, min(ends[ends > start]) - 1)]
  wanted <- sub(".*library\\(([a-zA-Z0-9.]+)\\).*", "\\1", grep("library\\(", code, value = TRUE))
  test(paste("docs: line", start, paste(wanted, collapse = ", ")), {
    absent <- wanted[!vapply(wanted, requireNamespace, NA, quietly = TRUE)]
    if (length(absent) > 0) {
      # Debian does not have these; tests/python/test_adbi.py does what they do.
      equal(absent, "adbcdrivermanager")
      parse(text = code)
      skip(paste("client: Debian has no", absent))
    }
    stopifnot(any(grepl("127.0.0.1:31337", code, fixed = TRUE)))
    code <- gsub("127.0.0.1:31337", address, code, fixed = TRUE)
    code <- gsub("/path/to/flight-sql-jdbc-driver-18.3.0.jar", Sys.getenv("HUBFLIGHT_JAR"), code, fixed = TRUE)
    said <- capture.output(eval(parse(text = code), new.env(parent = globalenv())))
    equal(unique(said), "[1] TRUE")
  })
}
