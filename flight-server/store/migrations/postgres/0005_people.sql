-- What rights rest on is counted: `revision` grows in the transaction that changes any of it,
-- whoever writes, so that a server notices what another process withdrew by reading one number.
-- A sequence would not do: it counts before the change can be seen.
CREATE TABLE rights (
  one      BIGINT PRIMARY KEY CHECK (one = 1),
  revision BIGINT NOT NULL
);
INSERT INTO rights (one, revision) VALUES (1, 0);
CREATE FUNCTION count_rights() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN UPDATE rights SET revision = revision + 1; RETURN NULL; END $$;

CREATE TRIGGER persons_rights AFTER UPDATE OF active, is_admin, token_epoch OR DELETE ON persons
FOR EACH STATEMENT EXECUTE FUNCTION count_rights();
CREATE TRIGGER projects_rights AFTER UPDATE OF valid_from, valid_to OR DELETE ON projects
FOR EACH STATEMENT EXECUTE FUNCTION count_rights();
CREATE TRIGGER members_rights AFTER INSERT OR UPDATE OR DELETE ON members
FOR EACH STATEMENT EXECUTE FUNCTION count_rights();
CREATE TRIGGER habilitations_rights AFTER INSERT OR UPDATE OR DELETE ON habilitations
FOR EACH STATEMENT EXECUTE FUNCTION count_rights();
CREATE TRIGGER tokens_rights AFTER UPDATE OR DELETE ON tokens
FOR EACH STATEMENT EXECUTE FUNCTION count_rights();

-- Persons whose rows nobody sees, hub-wide: their identifiers as the datasets store them, because a
-- scan compares values. Only the server and the administrator's commands read this table.
CREATE TABLE oppositions (
  domain     TEXT NOT NULL,
  value      TEXT NOT NULL,
  entered_at BIGINT NOT NULL,
  PRIMARY KEY (domain, value)
);
CREATE TRIGGER oppositions_rights AFTER INSERT OR UPDATE OR DELETE ON oppositions
FOR EACH STATEMENT EXECUTE FUNCTION count_rights();

-- What a login needs beside the password: when an administrator last ended a lock-out, the sealed
-- secret of the second factor, and the step of the last code that was accepted.
CREATE TABLE logins (
  person      TEXT PRIMARY KEY REFERENCES persons (id),
  unlocked_at BIGINT,
  totp_sealed BYTEA,
  totp_step   BIGINT
);

-- What an administrator may see and do. Those who were one before there were roles have all.
CREATE TABLE admin_roles (
  person TEXT NOT NULL REFERENCES persons (id),
  role   TEXT NOT NULL CHECK (role IN ('people', 'policy', 'billing', 'audit')),
  PRIMARY KEY (person, role)
);
INSERT INTO admin_roles (person, role) SELECT id, 'people' FROM persons WHERE is_admin = 1;
INSERT INTO admin_roles (person, role) SELECT id, 'policy' FROM persons WHERE is_admin = 1;
INSERT INTO admin_roles (person, role) SELECT id, 'billing' FROM persons WHERE is_admin = 1;
INSERT INTO admin_roles (person, role) SELECT id, 'audit' FROM persons WHERE is_admin = 1;
CREATE TRIGGER admin_roles_rights AFTER DELETE ON admin_roles
FOR EACH STATEMENT EXECUTE FUNCTION count_rights();

-- A habilitation that one person entered is in force when a second one has confirmed it. Those of
-- the configuration were decided by the operator who wrote the file: they have neither.
ALTER TABLE habilitations ADD COLUMN entered_by TEXT;
ALTER TABLE habilitations ADD COLUMN confirmed_by TEXT CHECK (confirmed_by <> entered_by);
ALTER TABLE habilitations ADD COLUMN confirmed_at BIGINT;
CREATE TRIGGER habilitations_entered_immutable BEFORE UPDATE OF entered_by ON habilitations
FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER habilitations_confirmed_once BEFORE UPDATE OF confirmed_by, confirmed_at ON habilitations
FOR EACH ROW WHEN (OLD.confirmed_by IS NOT NULL OR OLD.entered_by IS NULL)
EXECUTE FUNCTION refuse_change();
