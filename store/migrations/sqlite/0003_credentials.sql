-- Every kind of credential, and proof that it is gone.
-- next is when a pending account (unproven or stuck) is to be looked at again, 1 for
-- at once, and 0 for all others; ends is when a ready binding expires, and 0 for one
-- that does not or is not ready. Those are columns of their own so that an index has
-- just these rows, and a change between two other states touches none.
-- An item of a stock that nobody ever took has no row.

-- +goose Up
ALTER TABLE accounts ADD COLUMN expires INTEGER NOT NULL DEFAULT 0;
ALTER TABLE accounts ADD COLUMN proven INTEGER NOT NULL DEFAULT 0;
ALTER TABLE accounts ADD COLUMN attempts INTEGER NOT NULL DEFAULT 0;
ALTER TABLE accounts ADD COLUMN next INTEGER NOT NULL DEFAULT 0;
CREATE INDEX accounts_next ON accounts (server, next) WHERE next > 0;

ALTER TABLE bindings ADD COLUMN ends INTEGER NOT NULL DEFAULT 0;
UPDATE bindings SET ends = expires WHERE expires > 0 AND state = 'ready';
CREATE INDEX bindings_ends ON bindings (ends) WHERE ends > 0;

CREATE TABLE stock (
    id          INTEGER PRIMARY KEY,
    server      TEXT    NOT NULL,
    name        TEXT    NOT NULL,
    state       TEXT    NOT NULL,
    account_row INTEGER NOT NULL,
    since       INTEGER NOT NULL,
    seal_key    INTEGER,
    material    BLOB
);
CREATE UNIQUE INDEX stock_name ON stock (server, name);
CREATE INDEX stock_account ON stock (account_row);

CREATE TABLE authorities (
    id          INTEGER PRIMARY KEY,
    server      TEXT    NOT NULL,
    certificate BLOB NOT NULL,
    crl_number  INTEGER NOT NULL,
    created     INTEGER NOT NULL,
    seal_key    INTEGER,
    private_key BLOB
);
CREATE UNIQUE INDEX authorities_server ON authorities (server);

CREATE TABLE certificates (
    id      INTEGER PRIMARY KEY,
    server  TEXT    NOT NULL,
    serial  TEXT    NOT NULL,
    name    TEXT    NOT NULL,
    expires INTEGER NOT NULL,
    revoked INTEGER NOT NULL
);
CREATE UNIQUE INDEX certificates_serial ON certificates (server, serial);
CREATE INDEX certificates_name ON certificates (server, name);
CREATE INDEX certificates_live ON certificates (server, id) WHERE revoked = 0;
CREATE INDEX certificates_revoked ON certificates (server, id) WHERE revoked > 0;
CREATE INDEX certificates_expires ON certificates (expires);

-- +goose Down
DROP TABLE certificates;
DROP TABLE authorities;
DROP TABLE stock;
DROP INDEX bindings_ends;
DROP INDEX accounts_next;
ALTER TABLE bindings DROP COLUMN ends;
ALTER TABLE accounts DROP COLUMN expires;
ALTER TABLE accounts DROP COLUMN proven;
ALTER TABLE accounts DROP COLUMN attempts;
ALTER TABLE accounts DROP COLUMN next;
