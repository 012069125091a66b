-- The identity face. Lists of texts are JSON; revisions begin at 1.
-- A removed service type stays, marked, until the rows that belong to it are
-- purged: what reads those looks at the mark. Its name is free at once. The keys of
-- an identity stand first in their indexes, so that it is found on all hosts too.
-- The times of authentications are whole seconds, in the same unit.

-- +goose Up
CREATE TABLE service_types (
    id          BIGINT PRIMARY KEY,
    uuid        TEXT COLLATE "C" NOT NULL,
    name        TEXT COLLATE "C" NOT NULL,
    removed     BIGINT NOT NULL DEFAULT 0,
    hosts       TEXT COLLATE "C" NOT NULL,
    auth_types  TEXT COLLATE "C" NOT NULL,
    auth_method TEXT COLLATE "C" NOT NULL,
    type        TEXT COLLATE "C" NOT NULL,
    revision    BIGINT NOT NULL,
    created     BIGINT NOT NULL,
    updated     BIGINT NOT NULL
);
CREATE UNIQUE INDEX service_types_name ON service_types (name) WHERE removed = 0;
CREATE UNIQUE INDEX service_types_uuid ON service_types (uuid) WHERE removed = 0;
CREATE INDEX service_types_removed ON service_types (id) WHERE removed = 1;

CREATE TABLE auth_methods (
    id          BIGINT PRIMARY KEY,
    uuid        TEXT COLLATE "C" NOT NULL,
    service_row BIGINT NOT NULL,
    host        TEXT COLLATE "C" NOT NULL,
    port        BIGINT NOT NULL,
    kind        TEXT COLLATE "C" NOT NULL,
    revision    BIGINT NOT NULL,
    created     BIGINT NOT NULL,
    updated     BIGINT NOT NULL,
    seal_key    BIGINT REFERENCES data_keys (id),
    material    BYTEA
);
CREATE UNIQUE INDEX auth_methods_host ON auth_methods (service_row, host);

CREATE TABLE identity_bindings (
    id          BIGINT PRIMARY KEY,
    uuid        TEXT COLLATE "C" NOT NULL,
    name        TEXT COLLATE "C" NOT NULL,
    service_row BIGINT NOT NULL,
    host        TEXT COLLATE "C" NOT NULL,
    auth_type   TEXT COLLATE "C" NOT NULL,
    identifier  TEXT COLLATE "C" NOT NULL,
    exact_key   TEXT COLLATE "C" NOT NULL,
    old_key     TEXT COLLATE "C" NOT NULL,
    issuer      TEXT COLLATE "C" NOT NULL,
    issuer_key  TEXT COLLATE "C" NOT NULL,
    unique_key  TEXT COLLATE "C" NOT NULL,
    revision    BIGINT NOT NULL,
    created     BIGINT NOT NULL,
    updated     BIGINT NOT NULL,
    last_auth   BIGINT NOT NULL
);
CREATE UNIQUE INDEX identity_bindings_name ON identity_bindings (name);
CREATE UNIQUE INDEX identity_bindings_exact ON identity_bindings (exact_key, service_row, host, auth_type);
CREATE UNIQUE INDEX identity_bindings_old ON identity_bindings (old_key, service_row, host, auth_type) WHERE old_key <> '';
CREATE INDEX identity_bindings_host ON identity_bindings (service_row, host, id);

CREATE TABLE authentications (
    id          BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    binding_row BIGINT NOT NULL,
    outcome     TEXT COLLATE "C" NOT NULL,
    at          BIGINT NOT NULL,
    count       BIGINT NOT NULL
);
CREATE UNIQUE INDEX authentications_second ON authentications (binding_row, outcome, at);
CREATE INDEX authentications_binding ON authentications (binding_row, id);
CREATE INDEX authentications_at ON authentications (at);

-- +goose Down
DROP TABLE authentications;
DROP TABLE identity_bindings;
DROP TABLE auth_methods;
DROP TABLE service_types;
