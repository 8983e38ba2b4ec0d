-- What the log proves is kept: no record of the ledger is deleted, and an execution changes only
-- once, when it is settled. There is no entry any more that the log takes in later.

ALTER TABLE audit_head DROP COLUMN adopt_to;
CREATE INDEX audit_statement ON audit (statement_id) WHERE statement_id IS NOT NULL;
-- What only the hub can compute of a key and its holder: a key that somebody else wrote has none.
ALTER TABLE text_keys ADD COLUMN tag BYTEA;

-- Only one change is allowed: the payload of an entry is erased as a purge allows.
CREATE OR REPLACE FUNCTION refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  payload CONSTANT TEXT[] := ARRAY['person', 'client', 'sql_sha256', 'sealed_sha256', 'salt'];
BEGIN
  IF to_jsonb(NEW) - payload = to_jsonb(OLD) - payload
    AND NEW.person IS NULL AND NEW.client = '' AND NEW.sql_sha256 IS NULL
    AND NEW.sealed_sha256 IS NULL AND NEW.salt IS NULL
    AND EXISTS (SELECT 1 FROM audit_purges WHERE before_at > OLD.at) THEN
    RETURN NEW;
  END IF;
  RAISE EXCEPTION 'an audit record is immutable';
END $$;

-- A text goes after the last entry that tells its hash.
CREATE OR REPLACE FUNCTION refuse_statement_change() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  payload CONSTANT TEXT[] := ARRAY['person', 'client', 'sql_sha256', 'sql_sealed', 'tags'];
BEGIN
  IF to_jsonb(NEW) - payload = to_jsonb(OLD) - payload
    AND NEW.person = '' AND NEW.client = '' AND NEW.sql_sha256 = ''
    AND NEW.sql_sealed = '' AND NEW.tags = '{}'
    AND EXISTS (SELECT 1 FROM audit_purges WHERE before_at > OLD.opened_at)
    AND NOT EXISTS (SELECT 1 FROM audit
                    WHERE statement_id = OLD.statement_id AND salt IS NOT NULL) THEN
    RETURN NEW;
  END IF;
  RAISE EXCEPTION 'a statement is immutable';
END $$;

CREATE TRIGGER executions_immutable BEFORE UPDATE ON executions
FOR EACH ROW WHEN (
  OLD.settled <> 0 OR NEW.settled <> 1
  OR (OLD.statement_id, OLD.attempt, OLD.owner, OLD.tariff_version, OLD.habilitations,
      OLD.datasets, OLD.columns, OLD.started_at)
    <> (NEW.statement_id, NEW.attempt, NEW.owner, NEW.tariff_version, NEW.habilitations,
        NEW.datasets, NEW.columns, NEW.started_at)
) EXECUTE FUNCTION refuse_change();
CREATE TRIGGER tariffs_immutable BEFORE UPDATE ON tariffs
FOR EACH ROW EXECUTE FUNCTION refuse_change();

CREATE TRIGGER statements_kept BEFORE DELETE ON statements
FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER executions_kept BEFORE DELETE ON executions
FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER interims_kept BEFORE DELETE ON interims
FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER usage_kept BEFORE DELETE ON usage
FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER usage_lines_kept BEFORE DELETE ON usage_lines
FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER tariffs_kept BEFORE DELETE ON tariffs
FOR EACH ROW EXECUTE FUNCTION refuse_change();
