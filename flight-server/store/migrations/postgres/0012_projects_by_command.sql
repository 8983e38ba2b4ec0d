-- 1 where an administrator's command made the project: the configuration does not list its members.
ALTER TABLE projects ADD COLUMN by_command BIGINT NOT NULL DEFAULT 0;
