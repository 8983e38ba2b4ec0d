-- Packages that are to leave the hub: what was asked for, what the rules found in it, who decided.
-- Their content lies sealed in files of the state folder.
CREATE TABLE exports (
  id           TEXT PRIMARY KEY,
  project      TEXT NOT NULL REFERENCES projects (id),
  name         TEXT NOT NULL,
  purpose      TEXT NOT NULL,
  statement_id TEXT NOT NULL,
  requested_by TEXT NOT NULL,
  requested_at INTEGER NOT NULL,
  row_count    INTEGER NOT NULL,
  byte_count   INTEGER NOT NULL,
  digest       BLOB NOT NULL,
  schema_ipc   BLOB NOT NULL,
  findings     TEXT NOT NULL,
  labels       TEXT NOT NULL,
  state        TEXT NOT NULL
    CHECK (state IN ('waiting', 'released', 'refused', 'withdrawn', 'expired')),
  decided_by   TEXT CHECK (decided_by <> requested_by),
  decided_at   INTEGER,
  expires_at   INTEGER NOT NULL
) STRICT;
-- A name means one package at a time.
CREATE UNIQUE INDEX exports_name ON exports (project, name) WHERE state IN ('waiting', 'released');
CREATE INDEX exports_project ON exports (project, requested_at);
-- Each view of a project looks for these.
CREATE INDEX exports_released ON exports (project) WHERE state = 'released';

CREATE TRIGGER exports_immutable BEFORE UPDATE OF id, project, name, purpose, statement_id,
  requested_by, requested_at, row_count, byte_count, digest, schema_ipc, findings, labels ON exports
BEGIN SELECT RAISE(ABORT, 'an export is immutable'); END;
-- What ended does not come back, and what waits is released by somebody.
CREATE TRIGGER exports_states BEFORE UPDATE ON exports
WHEN NOT (
  (OLD.state = 'waiting' AND NEW.state = 'released' AND NEW.decided_by IS NOT NULL)
  OR (OLD.state = 'waiting' AND NEW.state = 'refused' AND NEW.decided_by IS NOT NULL)
  OR (OLD.state IN ('waiting', 'released') AND NEW.state IN ('withdrawn', 'expired')
      AND NEW.decided_by IS OLD.decided_by AND NEW.expires_at = OLD.expires_at)
)
BEGIN SELECT RAISE(ABORT, 'an export is decided on once'); END;
CREATE TRIGGER exports_kept BEFORE DELETE ON exports
BEGIN SELECT RAISE(ABORT, 'an export is kept'); END;
-- What is withdrawn ends what reads it.
CREATE TRIGGER exports_update_rights AFTER UPDATE ON exports
BEGIN UPDATE rights SET revision = revision + 1; END;
