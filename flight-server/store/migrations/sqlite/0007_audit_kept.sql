-- What the log proves is kept: no record of the ledger is deleted, and an execution changes only
-- once, when it is settled. There is no entry any more that the log takes in later.

ALTER TABLE audit_head DROP COLUMN adopt_to;
CREATE INDEX audit_statement ON audit (statement_id) WHERE statement_id IS NOT NULL;
-- What only the hub can compute of a key and its holder: a key that somebody else wrote has none.
ALTER TABLE text_keys ADD COLUMN tag BLOB;

DROP TRIGGER audit_immutable;
-- Only one change is allowed: the payload of an entry is erased as a purge allows.
CREATE TRIGGER audit_immutable BEFORE UPDATE ON audit
WHEN NOT (
  NEW.seq = OLD.seq AND NEW.at = OLD.at AND NEW.event = OLD.event
  AND NEW.project IS OLD.project AND NEW.statement_id IS OLD.statement_id
  AND NEW.attempt IS OLD.attempt AND NEW.habilitations = OLD.habilitations
  AND NEW.datasets = OLD.datasets AND NEW.columns = OLD.columns
  AND NEW.outcome = OLD.outcome AND NEW.error_kind IS OLD.error_kind
  AND NEW.rows_returned = OLD.rows_returned AND NEW.bytes_returned = OLD.bytes_returned
  AND NEW.detail IS OLD.detail AND NEW.leaf IS OLD.leaf AND NEW.leaf_hash IS OLD.leaf_hash
  AND NEW.payload_hash IS OLD.payload_hash
  AND NEW.person IS NULL AND NEW.client = '' AND NEW.sql_sha256 IS NULL
  AND NEW.sealed_sha256 IS NULL AND NEW.salt IS NULL
  AND EXISTS (SELECT 1 FROM audit_purges WHERE before_at > OLD.at)
)
BEGIN SELECT RAISE(ABORT, 'an audit record is immutable'); END;

DROP TRIGGER statements_immutable;
-- A text goes after the last entry that tells its hash.
CREATE TRIGGER statements_immutable
BEFORE UPDATE OF seq, statement_id, person, project, organisation, kind, client, sql_sha256,
  sql_sealed, tags, opened_at, expires_at ON statements
WHEN NOT (
  NEW.seq = OLD.seq AND NEW.statement_id = OLD.statement_id AND NEW.project IS OLD.project
  AND NEW.organisation IS OLD.organisation AND NEW.kind = OLD.kind
  AND NEW.opened_at = OLD.opened_at AND NEW.expires_at = OLD.expires_at
  AND NEW.person = '' AND NEW.client = '' AND NEW.sql_sha256 = ''
  AND NEW.sql_sealed = x'' AND NEW.tags = '{}'
  AND EXISTS (SELECT 1 FROM audit_purges WHERE before_at > OLD.opened_at)
  AND NOT EXISTS (SELECT 1 FROM audit
                  WHERE statement_id = OLD.statement_id AND salt IS NOT NULL)
)
BEGIN SELECT RAISE(ABORT, 'a statement is immutable'); END;

CREATE TRIGGER executions_immutable BEFORE UPDATE ON executions
WHEN NOT (
  NEW.statement_id = OLD.statement_id AND NEW.attempt = OLD.attempt AND NEW.owner = OLD.owner
  AND NEW.tariff_version = OLD.tariff_version AND NEW.habilitations = OLD.habilitations
  AND NEW.datasets = OLD.datasets AND NEW.columns = OLD.columns
  AND NEW.started_at = OLD.started_at AND OLD.settled = 0 AND NEW.settled = 1
)
BEGIN SELECT RAISE(ABORT, 'an execution is only settled'); END;
CREATE TRIGGER tariffs_immutable BEFORE UPDATE ON tariffs
BEGIN SELECT RAISE(ABORT, 'a tariff is immutable'); END;

CREATE TRIGGER statements_kept BEFORE DELETE ON statements
BEGIN SELECT RAISE(ABORT, 'a statement is kept'); END;
CREATE TRIGGER executions_kept BEFORE DELETE ON executions
BEGIN SELECT RAISE(ABORT, 'an execution is kept'); END;
CREATE TRIGGER interims_kept BEFORE DELETE ON interims
BEGIN SELECT RAISE(ABORT, 'an interim record is kept'); END;
CREATE TRIGGER usage_kept BEFORE DELETE ON usage
BEGIN SELECT RAISE(ABORT, 'a usage record is kept'); END;
CREATE TRIGGER usage_lines_kept BEFORE DELETE ON usage_lines
BEGIN SELECT RAISE(ABORT, 'a usage line is kept'); END;
CREATE TRIGGER tariffs_kept BEFORE DELETE ON tariffs
BEGIN SELECT RAISE(ABORT, 'a tariff is kept'); END;
