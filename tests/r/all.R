# All tests of R's clients, in one process: the JVM and Python start once. `run` starts it.

source("hub.R")
for (file in c("test_adbc.R", "test_jdbc.R", "test_dplyr.R", "test_docs.R")) source(file)
finish()
