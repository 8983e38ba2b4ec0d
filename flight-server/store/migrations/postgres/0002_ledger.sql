-- The ledger: what was asked (statements), what ran (executions), what is charged (usage,
-- usage_lines), and what an auditor reads (audit). Everything but the two marks `touched`
-- and `settled` and the counter `attempts` is written once.

CREATE TABLE tariffs (
  version    TEXT PRIMARY KEY,
  body       TEXT NOT NULL,
  created_at BIGINT NOT NULL
);

CREATE TABLE statements (
  seq          BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  statement_id TEXT NOT NULL UNIQUE,
  person       TEXT NOT NULL,
  project      TEXT,
  organisation TEXT,
  kind         TEXT NOT NULL,
  client       TEXT NOT NULL,
  sql_sha256   TEXT NOT NULL,
  sql_sealed   BYTEA NOT NULL,
  tags         TEXT NOT NULL,
  opened_at    BIGINT NOT NULL,
  expires_at   BIGINT NOT NULL,
  attempts     BIGINT NOT NULL DEFAULT 0,
  touched      BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX statements_project ON statements (project, seq);
CREATE INDEX statements_untouched ON statements (expires_at) WHERE touched = 0;

-- Attempt 0 stands for a statement that was refused or whose ticket was never redeemed.
CREATE TABLE executions (
  statement_id   TEXT NOT NULL REFERENCES statements (statement_id),
  attempt        BIGINT NOT NULL,
  owner          BIGINT NOT NULL,
  tariff_version TEXT NOT NULL REFERENCES tariffs (version),
  habilitations  TEXT NOT NULL,
  datasets       TEXT NOT NULL,
  columns        TEXT NOT NULL,
  started_at     BIGINT NOT NULL,
  settled        BIGINT NOT NULL DEFAULT 0,
  PRIMARY KEY (statement_id, attempt)
);
CREATE INDEX executions_open ON executions (owner) WHERE settled = 0;

CREATE TABLE interims (
  statement_id   TEXT NOT NULL,
  attempt        BIGINT NOT NULL,
  seq            BIGINT NOT NULL,
  at             BIGINT NOT NULL,
  quantities     TEXT NOT NULL,
  PRIMARY KEY (statement_id, attempt, seq),
  FOREIGN KEY (statement_id, attempt) REFERENCES executions (statement_id, attempt)
);

CREATE TABLE usage (
  seq            BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  usage_id       TEXT NOT NULL UNIQUE,
  statement_id   TEXT NOT NULL,
  attempt        BIGINT NOT NULL,
  person         TEXT NOT NULL,
  project        TEXT,
  organisation   TEXT,
  started_at     BIGINT NOT NULL,
  ended_at       BIGINT NOT NULL,
  kind           TEXT NOT NULL,
  outcome        TEXT NOT NULL,
  error_kind     TEXT,
  rows_returned  BIGINT NOT NULL,
  bytes_returned BIGINT NOT NULL,
  bytes_scanned  BIGINT NOT NULL,
  units          TEXT NOT NULL,
  failed_rows    BIGINT NOT NULL,
  row_errors     TEXT NOT NULL,
  cost           TEXT NOT NULL,
  currency       TEXT NOT NULL,
  tariff_version TEXT NOT NULL,
  UNIQUE (statement_id, attempt),
  FOREIGN KEY (statement_id, attempt) REFERENCES executions (statement_id, attempt)
);
CREATE INDEX usage_project ON usage (project, seq);

CREATE TABLE usage_lines (
  usage_id   TEXT NOT NULL REFERENCES usage (usage_id),
  line       BIGINT NOT NULL,
  unit       TEXT NOT NULL,
  function   TEXT,
  quantity   TEXT NOT NULL,
  unit_price TEXT NOT NULL,
  amount     TEXT NOT NULL,
  PRIMARY KEY (usage_id, line)
);

CREATE TABLE audit (
  seq            BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at             BIGINT NOT NULL,
  event          TEXT NOT NULL,
  person         TEXT,
  project        TEXT,
  statement_id   TEXT,
  attempt        BIGINT,
  habilitations  TEXT NOT NULL,
  datasets       TEXT NOT NULL,
  columns        TEXT NOT NULL,
  sql_sha256     TEXT,
  outcome        TEXT NOT NULL,
  error_kind     TEXT,
  rows_returned  BIGINT NOT NULL,
  bytes_returned BIGINT NOT NULL,
  client         TEXT NOT NULL
);
CREATE INDEX audit_project ON audit (project, seq);
CREATE TRIGGER interims_immutable BEFORE UPDATE ON interims
FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER usage_immutable BEFORE UPDATE ON usage
FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER usage_lines_immutable BEFORE UPDATE ON usage_lines
FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER audit_immutable BEFORE UPDATE ON audit
FOR EACH ROW EXECUTE FUNCTION refuse_change();
