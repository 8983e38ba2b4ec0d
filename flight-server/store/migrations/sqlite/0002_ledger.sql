-- The ledger: what was asked (statements), what ran (executions), what is charged (usage,
-- usage_lines), and what an auditor reads (audit). Everything but the two marks `touched`
-- and `settled` and the counter `attempts` is written once.

CREATE TABLE tariffs (
  version    TEXT PRIMARY KEY,
  body       TEXT NOT NULL,
  created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE statements (
  seq          INTEGER PRIMARY KEY AUTOINCREMENT,
  statement_id TEXT NOT NULL UNIQUE,
  person       TEXT NOT NULL,
  project      TEXT,
  organisation TEXT,
  kind         TEXT NOT NULL,
  client       TEXT NOT NULL,
  sql_sha256   TEXT NOT NULL,
  sql_sealed   BLOB NOT NULL,
  tags         TEXT NOT NULL,
  opened_at    INTEGER NOT NULL,
  expires_at   INTEGER NOT NULL,
  attempts     INTEGER NOT NULL DEFAULT 0,
  touched      INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX statements_project ON statements (project, seq);
CREATE INDEX statements_untouched ON statements (expires_at) WHERE touched = 0;

-- Attempt 0 stands for a statement that was refused or whose ticket was never redeemed.
CREATE TABLE executions (
  statement_id   TEXT NOT NULL REFERENCES statements (statement_id),
  attempt        INTEGER NOT NULL,
  owner          INTEGER NOT NULL,
  tariff_version TEXT NOT NULL REFERENCES tariffs (version),
  habilitations  TEXT NOT NULL,
  datasets       TEXT NOT NULL,
  columns        TEXT NOT NULL,
  started_at     INTEGER NOT NULL,
  settled        INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (statement_id, attempt)
) STRICT;
CREATE INDEX executions_open ON executions (owner) WHERE settled = 0;

CREATE TABLE interims (
  statement_id   TEXT NOT NULL,
  attempt        INTEGER NOT NULL,
  seq            INTEGER NOT NULL,
  at             INTEGER NOT NULL,
  quantities     TEXT NOT NULL,
  PRIMARY KEY (statement_id, attempt, seq),
  FOREIGN KEY (statement_id, attempt) REFERENCES executions (statement_id, attempt)
) STRICT;

CREATE TABLE usage (
  seq            INTEGER PRIMARY KEY AUTOINCREMENT,
  usage_id       TEXT NOT NULL UNIQUE,
  statement_id   TEXT NOT NULL,
  attempt        INTEGER NOT NULL,
  person         TEXT NOT NULL,
  project        TEXT,
  organisation   TEXT,
  started_at     INTEGER NOT NULL,
  ended_at       INTEGER NOT NULL,
  kind           TEXT NOT NULL,
  outcome        TEXT NOT NULL,
  error_kind     TEXT,
  rows_returned  INTEGER NOT NULL,
  bytes_returned INTEGER NOT NULL,
  bytes_scanned  INTEGER NOT NULL,
  units          TEXT NOT NULL,
  failed_rows    INTEGER NOT NULL,
  row_errors     TEXT NOT NULL,
  cost           TEXT NOT NULL,
  currency       TEXT NOT NULL,
  tariff_version TEXT NOT NULL,
  UNIQUE (statement_id, attempt),
  FOREIGN KEY (statement_id, attempt) REFERENCES executions (statement_id, attempt)
) STRICT;
CREATE INDEX usage_project ON usage (project, seq);

CREATE TABLE usage_lines (
  usage_id   TEXT NOT NULL REFERENCES usage (usage_id),
  line       INTEGER NOT NULL,
  unit       TEXT NOT NULL,
  function   TEXT,
  quantity   TEXT NOT NULL,
  unit_price TEXT NOT NULL,
  amount     TEXT NOT NULL,
  PRIMARY KEY (usage_id, line)
) STRICT;

CREATE TABLE audit (
  seq            INTEGER PRIMARY KEY AUTOINCREMENT,
  at             INTEGER NOT NULL,
  event          TEXT NOT NULL,
  person         TEXT,
  project        TEXT,
  statement_id   TEXT,
  attempt        INTEGER,
  habilitations  TEXT NOT NULL,
  datasets       TEXT NOT NULL,
  columns        TEXT NOT NULL,
  sql_sha256     TEXT,
  outcome        TEXT NOT NULL,
  error_kind     TEXT,
  rows_returned  INTEGER NOT NULL,
  bytes_returned INTEGER NOT NULL,
  client         TEXT NOT NULL
) STRICT;
CREATE INDEX audit_project ON audit (project, seq);

CREATE TRIGGER interims_immutable BEFORE UPDATE ON interims
BEGIN SELECT RAISE(ABORT, 'an interim record is immutable'); END;
CREATE TRIGGER usage_immutable BEFORE UPDATE ON usage
BEGIN SELECT RAISE(ABORT, 'a usage record is immutable'); END;
CREATE TRIGGER usage_lines_immutable BEFORE UPDATE ON usage_lines
BEGIN SELECT RAISE(ABORT, 'a usage line is immutable'); END;
CREATE TRIGGER audit_immutable BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'an audit record is immutable'); END;
