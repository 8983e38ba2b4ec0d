-- What rights rest on is counted: `revision` grows in the transaction that changes any of it,
-- whoever writes, so that a server notices what another process withdrew by reading one number.
-- A sequence would not do: it counts before the change can be seen.
CREATE TABLE rights (
  one      INTEGER PRIMARY KEY CHECK (one = 1),
  revision INTEGER NOT NULL
) STRICT;
INSERT INTO rights (one, revision) VALUES (1, 0);

CREATE TRIGGER persons_update_rights AFTER UPDATE OF active, is_admin, token_epoch ON persons
BEGIN UPDATE rights SET revision = revision + 1; END;
CREATE TRIGGER persons_delete_rights AFTER DELETE ON persons
BEGIN UPDATE rights SET revision = revision + 1; END;
CREATE TRIGGER projects_update_rights AFTER UPDATE OF valid_from, valid_to ON projects
BEGIN UPDATE rights SET revision = revision + 1; END;
CREATE TRIGGER projects_delete_rights AFTER DELETE ON projects
BEGIN UPDATE rights SET revision = revision + 1; END;
CREATE TRIGGER members_insert_rights AFTER INSERT ON members
BEGIN UPDATE rights SET revision = revision + 1; END;
CREATE TRIGGER members_update_rights AFTER UPDATE ON members
BEGIN UPDATE rights SET revision = revision + 1; END;
CREATE TRIGGER members_delete_rights AFTER DELETE ON members
BEGIN UPDATE rights SET revision = revision + 1; END;
CREATE TRIGGER habilitations_insert_rights AFTER INSERT ON habilitations
BEGIN UPDATE rights SET revision = revision + 1; END;
CREATE TRIGGER habilitations_update_rights AFTER UPDATE ON habilitations
BEGIN UPDATE rights SET revision = revision + 1; END;
CREATE TRIGGER habilitations_delete_rights AFTER DELETE ON habilitations
BEGIN UPDATE rights SET revision = revision + 1; END;
CREATE TRIGGER tokens_update_rights AFTER UPDATE ON tokens
BEGIN UPDATE rights SET revision = revision + 1; END;
CREATE TRIGGER tokens_delete_rights AFTER DELETE ON tokens
BEGIN UPDATE rights SET revision = revision + 1; END;

-- Persons whose rows nobody sees, hub-wide: their identifiers as the datasets store them, because a
-- scan compares values. Only the server and the administrator's commands read this table.
CREATE TABLE oppositions (
  domain     TEXT NOT NULL,
  value      TEXT NOT NULL,
  entered_at INTEGER NOT NULL,
  PRIMARY KEY (domain, value)
) STRICT;
CREATE TRIGGER oppositions_insert_rights AFTER INSERT ON oppositions
BEGIN UPDATE rights SET revision = revision + 1; END;
CREATE TRIGGER oppositions_delete_rights AFTER DELETE ON oppositions
BEGIN UPDATE rights SET revision = revision + 1; END;

-- What a login needs beside the password: when an administrator last ended a lock-out, the sealed
-- secret of the second factor, and the step of the last code that was accepted.
CREATE TABLE logins (
  person      TEXT PRIMARY KEY REFERENCES persons (id),
  unlocked_at INTEGER,
  totp_sealed BLOB,
  totp_step   INTEGER
) STRICT;

-- What an administrator may see and do. Those who were one before there were roles have all.
CREATE TABLE admin_roles (
  person TEXT NOT NULL REFERENCES persons (id),
  role   TEXT NOT NULL CHECK (role IN ('people', 'policy', 'billing', 'audit')),
  PRIMARY KEY (person, role)
) STRICT;
INSERT INTO admin_roles (person, role) SELECT id, 'people' FROM persons WHERE is_admin = 1;
INSERT INTO admin_roles (person, role) SELECT id, 'policy' FROM persons WHERE is_admin = 1;
INSERT INTO admin_roles (person, role) SELECT id, 'billing' FROM persons WHERE is_admin = 1;
INSERT INTO admin_roles (person, role) SELECT id, 'audit' FROM persons WHERE is_admin = 1;
CREATE TRIGGER admin_roles_delete_rights AFTER DELETE ON admin_roles
BEGIN UPDATE rights SET revision = revision + 1; END;

-- A habilitation that one person entered is in force when a second one has confirmed it. Those of
-- the configuration were decided by the operator who wrote the file: they have neither.
ALTER TABLE habilitations ADD COLUMN entered_by TEXT;
ALTER TABLE habilitations ADD COLUMN confirmed_by TEXT CHECK (confirmed_by <> entered_by);
ALTER TABLE habilitations ADD COLUMN confirmed_at INTEGER;
CREATE TRIGGER habilitations_entered_immutable BEFORE UPDATE OF entered_by ON habilitations
BEGIN SELECT RAISE(ABORT, 'who entered a habilitation is immutable'); END;
CREATE TRIGGER habilitations_confirmed_once BEFORE UPDATE OF confirmed_by, confirmed_at ON habilitations
WHEN OLD.confirmed_by IS NOT NULL OR OLD.entered_by IS NULL
BEGIN SELECT RAISE(ABORT, 'a habilitation is confirmed once'); END;
