-- A server keeps what it read of rights until the revision grows: from here on it grows with
-- everything that is read so, also with what only gives more, or only says who pays.
CREATE TRIGGER persons_named_rights AFTER UPDATE OF name, password_hash ON persons
BEGIN UPDATE rights SET revision = revision + 1; END;
CREATE TRIGGER projects_described_rights
  AFTER UPDATE OF title, purpose, organisation, space_quota_bytes, budget ON projects
BEGIN UPDATE rights SET revision = revision + 1; END;
CREATE TRIGGER admin_roles_insert_rights AFTER INSERT ON admin_roles
BEGIN UPDATE rights SET revision = revision + 1; END;
CREATE TRIGGER admin_roles_update_rights AFTER UPDATE ON admin_roles
BEGIN UPDATE rights SET revision = revision + 1; END;
CREATE TRIGGER exports_insert_rights AFTER INSERT ON exports
BEGIN UPDATE rights SET revision = revision + 1; END;
