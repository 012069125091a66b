-- Times are microseconds since 1970, 0 for none. Ids come from meta.next_id.
-- In instances and bindings, tomb is 0 while the row is live and 2^62 - id once
-- it is removed: one unique index then keeps live names apart, and finds the
-- live row, else the newest tombstone, first. It is a column of its own, and not
-- the state, so that a change between two live states touches no index.
-- Sealed columns stand last; seal_key is the data key of the sealed one.

-- +goose Up
CREATE TABLE meta (
    id           INTEGER PRIMARY KEY CHECK (id = 1),
    installation TEXT    NOT NULL,
    next_id      INTEGER NOT NULL,
    pinged       INTEGER NOT NULL DEFAULT 0
);

CREATE TABLE data_keys (
    id      INTEGER PRIMARY KEY,
    created INTEGER NOT NULL,
    wrapped BLOB    NOT NULL
);

CREATE TABLE instances (
    id                  INTEGER PRIMARY KEY,
    platform            TEXT    NOT NULL,
    guid                TEXT    NOT NULL,
    tomb                INTEGER NOT NULL,
    state               TEXT    NOT NULL,
    name                TEXT    NOT NULL,
    offering_id         TEXT    NOT NULL,
    plan_id             TEXT    NOT NULL,
    kind                TEXT    NOT NULL,
    server              TEXT    NOT NULL,
    organization        TEXT    NOT NULL,
    space               TEXT    NOT NULL,
    maintenance_version TEXT    NOT NULL,
    dashboard_url       TEXT    NOT NULL,
    created             INTEGER NOT NULL,
    updated             INTEGER NOT NULL,
    seal_key            INTEGER,
    context             BLOB,
    parameters          BLOB
);
CREATE UNIQUE INDEX instances_guid ON instances (platform, guid, tomb);
CREATE INDEX instances_plan ON instances (platform, plan_id) WHERE tomb = 0;
CREATE INDEX instances_use ON instances (server, offering_id, plan_id, kind) WHERE tomb = 0;

CREATE TABLE bindings (
    id            INTEGER PRIMARY KEY,
    instance_row  INTEGER NOT NULL,
    platform      TEXT    NOT NULL,
    instance_guid TEXT    NOT NULL,
    guid          TEXT    NOT NULL,
    tomb          INTEGER NOT NULL,
    state         TEXT    NOT NULL,
    offering_id   TEXT    NOT NULL,
    plan_id       TEXT    NOT NULL,
    app_guid      TEXT    NOT NULL,
    predecessor   TEXT    NOT NULL,
    expires       INTEGER NOT NULL,
    renew_before  INTEGER NOT NULL,
    created       INTEGER NOT NULL,
    updated       INTEGER NOT NULL,
    seal_key      INTEGER,
    bind_resource BLOB,
    context       BLOB,
    parameters    BLOB
);
CREATE UNIQUE INDEX bindings_guid ON bindings (platform, guid, tomb);
CREATE INDEX bindings_instance ON bindings (instance_row) WHERE tomb = 0;

CREATE TABLE accounts (
    id           INTEGER PRIMARY KEY,
    binding_row  INTEGER NOT NULL,
    instance_row INTEGER NOT NULL,
    kind         TEXT    NOT NULL,
    server       TEXT    NOT NULL,
    name         TEXT    NOT NULL,
    state        TEXT    NOT NULL,
    gone         INTEGER NOT NULL,
    created      INTEGER NOT NULL,
    updated      INTEGER NOT NULL,
    proof        TEXT    NOT NULL,
    seal_key     INTEGER,
    details      BLOB,
    material     BLOB
);
CREATE UNIQUE INDEX accounts_name ON accounts (server, name);
CREATE INDEX accounts_binding ON accounts (binding_row);
CREATE INDEX accounts_server ON accounts (server) WHERE gone = 0;

CREATE TABLE operations (
    id           INTEGER PRIMARY KEY,
    kind         TEXT    NOT NULL,
    platform     TEXT    NOT NULL,
    instance_row INTEGER NOT NULL,
    binding_row  INTEGER NOT NULL,
    server       TEXT    NOT NULL,
    state        TEXT    NOT NULL,
    internal     INTEGER NOT NULL,
    undo         INTEGER NOT NULL,
    actor        TEXT    NOT NULL,
    request_id   TEXT    NOT NULL,
    attempts     INTEGER NOT NULL,
    problem      TEXT    NOT NULL,
    due          INTEGER NOT NULL,
    deadline     INTEGER NOT NULL,
    owner        INTEGER NOT NULL,
    fence        INTEGER NOT NULL,
    code         TEXT    NOT NULL,
    message      TEXT    NOT NULL,
    created      INTEGER NOT NULL,
    finished     INTEGER NOT NULL,
    seal_key     INTEGER,
    request      BLOB
);
CREATE UNIQUE INDEX operations_active ON operations (instance_row, binding_row) WHERE state = 'in progress';
CREATE INDEX operations_due ON operations (due, owner) WHERE state = 'in progress';
CREATE INDEX operations_subject ON operations (binding_row, instance_row);
CREATE INDEX operations_finished ON operations (finished) WHERE finished > 0;

CREATE TABLE events (
    id           INTEGER PRIMARY KEY,
    at           INTEGER NOT NULL,
    platform     TEXT    NOT NULL,
    actor        TEXT    NOT NULL,
    request_id   TEXT    NOT NULL,
    action       TEXT    NOT NULL,
    instance_id  TEXT    NOT NULL,
    binding_id   TEXT    NOT NULL,
    account      TEXT    NOT NULL,
    result       TEXT    NOT NULL,
    message      TEXT    NOT NULL
);
CREATE INDEX events_at ON events (at);

CREATE TABLE processes (
    id      INTEGER PRIMARY KEY,
    expires INTEGER NOT NULL
);

-- +goose Down
DROP TABLE processes;
DROP TABLE events;
DROP TABLE operations;
DROP TABLE accounts;
DROP TABLE bindings;
DROP TABLE instances;
DROP TABLE data_keys;
DROP TABLE meta;
