-- Packages that are to leave the hub: what was asked for, what the rules found in it, who decided.
-- Their content lies sealed in files of the state folder.
CREATE TABLE exports (
  id           TEXT PRIMARY KEY,
  project      TEXT NOT NULL REFERENCES projects (id),
  name         TEXT NOT NULL,
  purpose      TEXT NOT NULL,
  statement_id TEXT NOT NULL,
  requested_by TEXT NOT NULL,
  requested_at BIGINT NOT NULL,
  row_count    BIGINT NOT NULL,
  byte_count   BIGINT NOT NULL,
  digest       BYTEA NOT NULL,
  schema_ipc   BYTEA NOT NULL,
  findings     TEXT NOT NULL,
  labels       TEXT NOT NULL,
  state        TEXT NOT NULL
    CHECK (state IN ('waiting', 'released', 'refused', 'withdrawn', 'expired')),
  decided_by   TEXT CHECK (decided_by <> requested_by),
  decided_at   BIGINT,
  expires_at   BIGINT NOT NULL
);
-- A name means one package at a time.
CREATE UNIQUE INDEX exports_name ON exports (project, name) WHERE state IN ('waiting', 'released');
CREATE INDEX exports_project ON exports (project, requested_at);
-- Each view of a project looks for these.
CREATE INDEX exports_released ON exports (project) WHERE state = 'released';

CREATE TRIGGER exports_immutable BEFORE UPDATE OF id, project, name, purpose, statement_id,
  requested_by, requested_at, row_count, byte_count, digest, schema_ipc, findings, labels ON exports
FOR EACH ROW EXECUTE FUNCTION refuse_change();
-- What ended does not come back, and what waits is released by somebody.
CREATE TRIGGER exports_states BEFORE UPDATE ON exports
FOR EACH ROW WHEN (NOT (
  (OLD.state = 'waiting' AND NEW.state = 'released' AND NEW.decided_by IS NOT NULL)
  OR (OLD.state = 'waiting' AND NEW.state = 'refused' AND NEW.decided_by IS NOT NULL)
  OR (OLD.state IN ('waiting', 'released') AND NEW.state IN ('withdrawn', 'expired')
      AND NEW.decided_by IS NOT DISTINCT FROM OLD.decided_by AND NEW.expires_at = OLD.expires_at)
)) EXECUTE FUNCTION refuse_change();
CREATE TRIGGER exports_kept BEFORE DELETE ON exports
FOR EACH ROW EXECUTE FUNCTION refuse_change();
-- What is withdrawn ends what reads it.
CREATE TRIGGER exports_rights AFTER UPDATE ON exports
FOR EACH STATEMENT EXECUTE FUNCTION count_rights();
