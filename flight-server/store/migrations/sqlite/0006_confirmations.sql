-- A confirmation does not count while who gave it is a member of the project. Then, and only
-- then, another person may confirm in their place.
DROP TRIGGER habilitations_confirmed_once;
CREATE TRIGGER habilitations_confirmed_once BEFORE UPDATE OF confirmed_by, confirmed_at ON habilitations
WHEN OLD.entered_by IS NULL OR (OLD.confirmed_by IS NOT NULL AND (NEW.confirmed_by IS NULL
  OR NOT EXISTS (SELECT 1 FROM members WHERE project = OLD.project AND person = OLD.confirmed_by)))
BEGIN SELECT RAISE(ABORT, 'a habilitation is confirmed once'); END;
