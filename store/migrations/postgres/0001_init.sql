-- Times are microseconds since 1970, 0 for none. Ids come from meta.next_id.
-- In instances and bindings, tomb is 0 while the row is live and 2^62 - id once
-- it is removed: one unique index then keeps live names apart, and finds the
-- live row, else the newest tombstone, first. It is a column of its own, and not
-- the state, so that a change between two live states touches no index.
-- Text sorts by its bytes (COLLATE "C"): faster, and an upgrade of the system's
-- collations leaves the indexes in order.
-- Sealed columns stand last; seal_key is the data key of the sealed one.

-- +goose Up
CREATE TABLE meta (
    id           BIGINT PRIMARY KEY CHECK (id = 1),
    installation TEXT COLLATE "C" NOT NULL,
    next_id      BIGINT NOT NULL,
    pinged       BIGINT NOT NULL DEFAULT 0
);

CREATE TABLE data_keys (
    id      BIGINT PRIMARY KEY,
    created BIGINT NOT NULL,
    wrapped BYTEA NOT NULL
);

CREATE TABLE instances (
    id                  BIGINT PRIMARY KEY,
    platform            TEXT COLLATE "C" NOT NULL,
    guid                TEXT COLLATE "C" NOT NULL,
    tomb                BIGINT NOT NULL,
    state               TEXT COLLATE "C" NOT NULL,
    name                TEXT COLLATE "C" NOT NULL,
    offering_id         TEXT COLLATE "C" NOT NULL,
    plan_id             TEXT COLLATE "C" NOT NULL,
    kind                TEXT COLLATE "C" NOT NULL,
    server              TEXT COLLATE "C" NOT NULL,
    organization        TEXT COLLATE "C" NOT NULL,
    space               TEXT COLLATE "C" NOT NULL,
    maintenance_version TEXT COLLATE "C" NOT NULL,
    dashboard_url       TEXT COLLATE "C" NOT NULL,
    created             BIGINT NOT NULL,
    updated             BIGINT NOT NULL,
    seal_key            BIGINT REFERENCES data_keys (id),
    context             BYTEA,
    parameters          BYTEA
);
CREATE UNIQUE INDEX instances_guid ON instances (platform, guid, tomb);
CREATE INDEX instances_plan ON instances (platform, plan_id) WHERE tomb = 0;
CREATE INDEX instances_use ON instances (server, offering_id, plan_id, kind) WHERE tomb = 0;

CREATE TABLE bindings (
    id            BIGINT PRIMARY KEY,
    instance_row  BIGINT NOT NULL,
    platform      TEXT COLLATE "C" NOT NULL,
    instance_guid TEXT COLLATE "C" NOT NULL,
    guid          TEXT COLLATE "C" NOT NULL,
    tomb          BIGINT NOT NULL,
    state         TEXT COLLATE "C" NOT NULL,
    offering_id   TEXT COLLATE "C" NOT NULL,
    plan_id       TEXT COLLATE "C" NOT NULL,
    app_guid      TEXT COLLATE "C" NOT NULL,
    predecessor   TEXT COLLATE "C" NOT NULL,
    expires       BIGINT NOT NULL,
    renew_before  BIGINT NOT NULL,
    created       BIGINT NOT NULL,
    updated       BIGINT NOT NULL,
    seal_key      BIGINT REFERENCES data_keys (id),
    bind_resource BYTEA,
    context       BYTEA,
    parameters    BYTEA
);
CREATE UNIQUE INDEX bindings_guid ON bindings (platform, guid, tomb);
CREATE INDEX bindings_instance ON bindings (instance_row) WHERE tomb = 0;

CREATE TABLE accounts (
    id           BIGINT PRIMARY KEY,
    binding_row  BIGINT NOT NULL,
    instance_row BIGINT NOT NULL,
    kind         TEXT COLLATE "C" NOT NULL,
    server       TEXT COLLATE "C" NOT NULL,
    name         TEXT COLLATE "C" NOT NULL,
    state        TEXT COLLATE "C" NOT NULL,
    gone         BIGINT NOT NULL,
    created      BIGINT NOT NULL,
    updated      BIGINT NOT NULL,
    proof        TEXT COLLATE "C" NOT NULL,
    seal_key     BIGINT REFERENCES data_keys (id),
    details      BYTEA,
    material     BYTEA
);
CREATE UNIQUE INDEX accounts_name ON accounts (server, name);
CREATE INDEX accounts_binding ON accounts (binding_row);
CREATE INDEX accounts_server ON accounts (server) WHERE gone = 0;

CREATE TABLE operations (
    id           BIGINT PRIMARY KEY,
    kind         TEXT COLLATE "C" NOT NULL,
    platform     TEXT COLLATE "C" NOT NULL,
    instance_row BIGINT NOT NULL,
    binding_row  BIGINT NOT NULL,
    server       TEXT COLLATE "C" NOT NULL,
    state        TEXT COLLATE "C" NOT NULL,
    internal     BIGINT NOT NULL,
    undo         BIGINT NOT NULL,
    actor        TEXT COLLATE "C" NOT NULL,
    request_id   TEXT COLLATE "C" NOT NULL,
    attempts     BIGINT NOT NULL,
    problem      TEXT COLLATE "C" NOT NULL,
    due          BIGINT NOT NULL,
    deadline     BIGINT NOT NULL,
    owner        BIGINT NOT NULL,
    fence        BIGINT NOT NULL,
    code         TEXT COLLATE "C" NOT NULL,
    message      TEXT COLLATE "C" NOT NULL,
    created      BIGINT NOT NULL,
    finished     BIGINT NOT NULL,
    seal_key     BIGINT REFERENCES data_keys (id),
    request      BYTEA
);
CREATE UNIQUE INDEX operations_active ON operations (instance_row, binding_row) WHERE state = 'in progress';
CREATE INDEX operations_due ON operations (due, owner) WHERE state = 'in progress';
CREATE INDEX operations_subject ON operations (binding_row, instance_row);
CREATE INDEX operations_finished ON operations (finished) WHERE finished > 0;

CREATE TABLE events (
    id           BIGINT PRIMARY KEY,
    at           BIGINT NOT NULL,
    platform     TEXT COLLATE "C" NOT NULL,
    actor        TEXT COLLATE "C" NOT NULL,
    request_id   TEXT COLLATE "C" NOT NULL,
    action       TEXT COLLATE "C" NOT NULL,
    instance_id  TEXT COLLATE "C" NOT NULL,
    binding_id   TEXT COLLATE "C" NOT NULL,
    account      TEXT COLLATE "C" NOT NULL,
    result       TEXT COLLATE "C" NOT NULL,
    message      TEXT COLLATE "C" NOT NULL
);
CREATE INDEX events_at ON events (at);

CREATE TABLE processes (
    id      BIGINT PRIMARY KEY,
    expires BIGINT NOT NULL
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
