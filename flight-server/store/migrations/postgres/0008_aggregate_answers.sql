-- Aggregates that were published for a project on a day since 1970 (UTC).
CREATE TABLE aggregate_answers (
  project TEXT NOT NULL REFERENCES projects (id),
  day     BIGINT NOT NULL,
  answers BIGINT NOT NULL,
  PRIMARY KEY (project, day)
);
