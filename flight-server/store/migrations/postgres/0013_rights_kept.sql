-- A server keeps what it read of rights until the revision grows: from here on it grows with
-- everything that is read so, also with what only gives more, or only says who pays.
CREATE TRIGGER persons_named_rights AFTER UPDATE OF name, password_hash ON persons
FOR EACH STATEMENT EXECUTE FUNCTION count_rights();
CREATE TRIGGER projects_described_rights
  AFTER UPDATE OF title, purpose, organisation, space_quota_bytes, budget ON projects
FOR EACH STATEMENT EXECUTE FUNCTION count_rights();
CREATE TRIGGER admin_roles_given_rights AFTER INSERT OR UPDATE ON admin_roles
FOR EACH STATEMENT EXECUTE FUNCTION count_rights();
CREATE TRIGGER exports_insert_rights AFTER INSERT ON exports
FOR EACH STATEMENT EXECUTE FUNCTION count_rights();
