-- Aggregates that were published for a project on a day since 1970 (UTC).
CREATE TABLE aggregate_answers (
  project TEXT NOT NULL REFERENCES projects (id),
  day     INTEGER NOT NULL,
  answers INTEGER NOT NULL,
  PRIMARY KEY (project, day)
) STRICT;
