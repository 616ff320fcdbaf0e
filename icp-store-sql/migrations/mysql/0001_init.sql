-- Ids are 16 bytes, moments are milliseconds since 1970, states follow DeliveryState::ALL.
-- Names compare by their bytes. What is looked up and may end in a space is kept as bytes: the
-- binary collation that MySQL and MariaDB have in common does not tell such spaces apart.
-- Each statement can be run again, because the server commits after each.

CREATE TABLE IF NOT EXISTS icp_event (
    seq BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    id BINARY(16) NOT NULL,
    org VARCHAR(64) NOT NULL,
    unit VARCHAR(64),
    event_type VARCHAR(128) NOT NULL,
    content_type VARCHAR(256) NOT NULL,
    idempotency_key VARBINARY(256),
    ordering_key VARCHAR(256),
    received_at BIGINT NOT NULL,
    due_at BIGINT,
    expires_at BIGINT,
    traceparent VARCHAR(64),
    tracestate VARCHAR(512),
    subject VARBINARY(256),
    config_revision BIGINT NOT NULL,
    fan_out BIGINT NOT NULL,
    -- How many of the deliveries it was fanned out to are removed.
    pruned BIGINT NOT NULL DEFAULT 0,
    erased_at BIGINT,
    body LONGBLOB NOT NULL,
    UNIQUE KEY icp_event_id (org, id),
    KEY icp_event_key (org, idempotency_key, id),
    KEY icp_event_subject (org, subject, id)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS icp_outbox (
    seq BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    id BINARY(16) NOT NULL,
    org VARCHAR(64) NOT NULL,
    unit VARCHAR(64),
    event_type VARCHAR(128) NOT NULL,
    content_type VARCHAR(256) NOT NULL,
    idempotency_key VARBINARY(256),
    ordering_key VARCHAR(256),
    received_at BIGINT NOT NULL,
    due_at BIGINT,
    expires_at BIGINT,
    traceparent VARCHAR(64),
    tracestate VARCHAR(512),
    subject VARBINARY(256),
    config_revision BIGINT NOT NULL,
    fan_out BIGINT NOT NULL,
    body LONGBLOB NOT NULL,
    UNIQUE KEY icp_outbox_id (id),
    KEY icp_outbox_subject (org, subject)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS icp_idempotency (
    org VARCHAR(64) NOT NULL,
    `key` VARBINARY(256) NOT NULL,
    event BINARY(16) NOT NULL,
    body_hash BINARY(32) NOT NULL,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (org, `key`)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- The state leads where other databases index a part of the rows only.
CREATE TABLE IF NOT EXISTS icp_delivery (
    id BINARY(16) NOT NULL PRIMARY KEY,
    org VARCHAR(64) NOT NULL,
    event BINARY(16) NOT NULL,
    integration VARCHAR(64) NOT NULL,
    lane BINARY(16) NOT NULL,
    fifo BIGINT NOT NULL,
    state BIGINT NOT NULL,
    due_at BIGINT NOT NULL,
    epoch BIGINT NOT NULL,
    tries BIGINT NOT NULL,
    throttles BIGINT NOT NULL,
    rescues BIGINT NOT NULL,
    owner BINARY(16),
    lease_until BIGINT,
    expires_at BIGINT,
    replay_of BINARY(16),
    reason_code TEXT,
    reason_message LONGTEXT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    round BIGINT NOT NULL DEFAULT 0,
    -- Of a dead one: 1 given up, 2 repeated by an automatic round, else 0.
    letter BIGINT NOT NULL DEFAULT 0,
    letter_due BIGINT,
    -- What an automatic round repeats, so that only one does.
    round_of BINARY(16) AS (CASE WHEN round > 0 THEN replay_of ELSE NULL END) STORED,
    KEY icp_delivery_ready (state, lane, due_at, id),
    KEY icp_delivery_fifo (state, fifo, lane, id),
    KEY icp_delivery_leased (state, owner),
    KEY icp_delivery_dead (org, state, id),
    KEY icp_delivery_letter (state, letter, letter_due),
    UNIQUE KEY icp_delivery_round (round_of),
    KEY icp_delivery_expiry (state, expires_at),
    KEY icp_delivery_event (event),
    KEY icp_delivery_integration (org, integration, id)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS icp_attempt (
    delivery BINARY(16) NOT NULL,
    epoch BIGINT NOT NULL,
    number BIGINT NOT NULL,
    started_at BIGINT NOT NULL,
    outcome LONGTEXT NOT NULL,
    status BIGINT,
    dns BIGINT,
    connect BIGINT,
    first_byte BIGINT,
    total BIGINT NOT NULL,
    exchange LONGTEXT,
    message LONGTEXT,
    transcript LONGTEXT,
    PRIMARY KEY (delivery, epoch)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS icp_letter (
    delivery BINARY(16) NOT NULL PRIMARY KEY,
    at BIGINT NOT NULL,
    actor TEXT NOT NULL,
    code TEXT NOT NULL,
    message LONGTEXT NOT NULL
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Notes are longer than a key may be, so their digest tells them apart.
CREATE TABLE IF NOT EXISTS icp_letter_note (
    delivery BINARY(16) NOT NULL,
    at BIGINT NOT NULL,
    author TEXT NOT NULL,
    text LONGTEXT NOT NULL,
    digest BINARY(64) AS (SHA2(CONCAT(HEX(author), ':', HEX(text)), 256)) STORED,
    UNIQUE KEY icp_letter_note_once (delivery, at, digest)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Leased deliveries of erased events.
CREATE TABLE IF NOT EXISTS icp_erasing (
    delivery BINARY(16) NOT NULL PRIMARY KEY
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Rules that are the default and health that is good are null. Of what a lane may lease at most,
-- `allowed` is what its health leaves.
-- `paused` adds up why a lane rests: 1 its integration is off, 2 it is paused, 4 its organization is.
CREATE TABLE IF NOT EXISTS icp_lane (
    id BINARY(16) NOT NULL PRIMARY KEY,
    org VARCHAR(64) NOT NULL,
    integration VARCHAR(64) NOT NULL,
    order_key VARCHAR(256),
    fifo BIGINT NOT NULL,
    weight BIGINT NOT NULL,
    pass BIGINT NOT NULL,
    runnable BIGINT NOT NULL,
    next_due BIGINT,
    in_flight BIGINT NOT NULL,
    max_in_flight BIGINT NOT NULL,
    blocked_until BIGINT,
    paused BIGINT NOT NULL,
    allowed BIGINT NOT NULL,
    rules LONGTEXT,
    health LONGTEXT,
    pace_minute BIGINT NOT NULL DEFAULT 0,
    pace_ended BIGINT NOT NULL DEFAULT 0,
    pace_before BIGINT NOT NULL DEFAULT 0,
    -- Lanes that are full, blocked or paused cost the claimer nothing.
    eligible BIGINT AS (CASE WHEN runnable = 1 AND paused = 0 AND blocked_until IS NULL
        AND in_flight < allowed THEN 1 ELSE 0 END) STORED,
    KEY icp_lane_eligible (eligible, pass, id),
    KEY icp_lane_pass (runnable, paused, blocked_until, pass),
    KEY icp_lane_busy (org, runnable, paused, blocked_until),
    KEY icp_lane_due (next_due),
    KEY icp_lane_blocked (blocked_until),
    KEY icp_lane_ill (health(1)),
    KEY icp_lane_org (org, integration),
    KEY icp_lane_list (org, id)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Why lanes rest, by integration, and by '' for all of an organization, for lanes yet to be made.
CREATE TABLE IF NOT EXISTS icp_rest (
    org VARCHAR(64) NOT NULL,
    integration VARCHAR(64) NOT NULL,
    why BIGINT NOT NULL,
    PRIMARY KEY (org, integration, why)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS icp_meter (
    org VARCHAR(64) NOT NULL,
    integration VARCHAR(64) NOT NULL,
    used BIGINT NOT NULL,
    PRIMARY KEY (org, integration)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- What else stands in `job` is told by these columns where it is looked for.
CREATE TABLE IF NOT EXISTS icp_replay (
    id BINARY(16) NOT NULL PRIMARY KEY,
    org VARCHAR(64) NOT NULL,
    state BIGINT NOT NULL,
    next_at BIGINT NOT NULL,
    owner BINARY(16),
    lease_until BIGINT,
    ended_at BIGINT,
    job LONGTEXT NOT NULL,
    KEY icp_replay_open (state, next_at),
    KEY icp_replay_org (org, id),
    KEY icp_replay_ended (org, ended_at)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS icp_replay_delivery (
    job BINARY(16) NOT NULL,
    delivery BINARY(16) NOT NULL,
    PRIMARY KEY (job, delivery)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS icp_session (
    id BINARY(16) NOT NULL PRIMARY KEY,
    beat BIGINT NOT NULL,
    beaten_at BIGINT NOT NULL
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Whose turn it is to change what is configured.
CREATE TABLE IF NOT EXISTS icp_head (
    id BIGINT NOT NULL PRIMARY KEY
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
INSERT INTO icp_head (id) VALUES (1) ON DUPLICATE KEY UPDATE id = 1;

CREATE TABLE IF NOT EXISTS icp_history (
    revision BIGINT NOT NULL PRIMARY KEY,
    org VARCHAR(64) NOT NULL,
    kind VARCHAR(64) NOT NULL,
    id VARCHAR(64) NOT NULL,
    name TEXT,
    labels LONGTEXT NOT NULL,
    spec LONGTEXT NOT NULL,
    status LONGTEXT NOT NULL,
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    deleted BIGINT NOT NULL,
    KEY icp_history_resource (org, kind, id, revision)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS icp_resource (
    kind VARCHAR(64) NOT NULL,
    org VARCHAR(64) NOT NULL,
    id VARCHAR(64) NOT NULL,
    revision BIGINT NOT NULL,
    deleted BIGINT NOT NULL,
    PRIMARY KEY (kind, org, id)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS icp_audit (
    revision BIGINT NOT NULL PRIMARY KEY,
    at BIGINT NOT NULL,
    actor TEXT NOT NULL,
    request_id TEXT,
    action TEXT NOT NULL,
    org VARCHAR(64) NOT NULL,
    kind VARCHAR(64) NOT NULL,
    id VARCHAR(64) NOT NULL,
    spec_before TEXT,
    spec_after TEXT,
    note LONGTEXT,
    acting_as TEXT,
    number BIGINT NOT NULL,
    chain VARCHAR(64) NOT NULL,
    KEY icp_audit_org (org, revision)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS icp_audit_head (
    org VARCHAR(64) NOT NULL PRIMARY KEY,
    revision BIGINT NOT NULL,
    number BIGINT NOT NULL,
    chain VARCHAR(64) NOT NULL,
    pruned_revision BIGINT NOT NULL,
    pruned_number BIGINT NOT NULL,
    pruned_chain VARCHAR(64) NOT NULL,
    KEY icp_audit_head_revision (revision)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS icp_handle (
    handle VARBINARY(320) NOT NULL PRIMARY KEY,
    org VARCHAR(64) NOT NULL,
    kind VARCHAR(64) NOT NULL,
    id VARCHAR(64) NOT NULL,
    KEY icp_handle_resource (org, kind, id)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS icp_slot (
    name VARBINARY(256) NOT NULL PRIMARY KEY,
    value MEDIUMBLOB NOT NULL,
    version BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    KEY icp_slot_expiry (expires_at)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Sums of outcomes by integration and hour (grain 0) or day (grain 1): how they ended, and how many
-- attempts took how long, by the buckets of `LATENCY_BOUNDS`.
CREATE TABLE IF NOT EXISTS icp_rollup (
    org VARCHAR(64) NOT NULL,
    grain BIGINT NOT NULL,
    begins BIGINT NOT NULL,
    integration VARCHAR(64) NOT NULL,
    attempts BIGINT NOT NULL DEFAULT 0,
    delivered BIGINT NOT NULL DEFAULT 0,
    failed BIGINT NOT NULL DEFAULT 0,
    retried BIGINT NOT NULL DEFAULT 0,
    dead BIGINT NOT NULL DEFAULT 0,
    skipped BIGINT NOT NULL DEFAULT 0,
    throttled BIGINT NOT NULL DEFAULT 0,
    t0 BIGINT NOT NULL DEFAULT 0,
    t1 BIGINT NOT NULL DEFAULT 0,
    t2 BIGINT NOT NULL DEFAULT 0,
    t3 BIGINT NOT NULL DEFAULT 0,
    t4 BIGINT NOT NULL DEFAULT 0,
    t5 BIGINT NOT NULL DEFAULT 0,
    t6 BIGINT NOT NULL DEFAULT 0,
    t7 BIGINT NOT NULL DEFAULT 0,
    t8 BIGINT NOT NULL DEFAULT 0,
    t9 BIGINT NOT NULL DEFAULT 0,
    t10 BIGINT NOT NULL DEFAULT 0,
    t11 BIGINT NOT NULL DEFAULT 0,
    t12 BIGINT NOT NULL DEFAULT 0,
    t13 BIGINT NOT NULL DEFAULT 0,
    t14 BIGINT NOT NULL DEFAULT 0,
    t15 BIGINT NOT NULL DEFAULT 0,
    t16 BIGINT NOT NULL DEFAULT 0,
    t17 BIGINT NOT NULL DEFAULT 0,
    t18 BIGINT NOT NULL DEFAULT 0,
    t19 BIGINT NOT NULL DEFAULT 0,
    t20 BIGINT NOT NULL DEFAULT 0,
    t21 BIGINT NOT NULL DEFAULT 0,
    t22 BIGINT NOT NULL DEFAULT 0,
    t23 BIGINT NOT NULL DEFAULT 0,
    t24 BIGINT NOT NULL DEFAULT 0,
    t25 BIGINT NOT NULL DEFAULT 0,
    t26 BIGINT NOT NULL DEFAULT 0,
    t27 BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (org, grain, begins, integration)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS icp_rollup_failure (
    org VARCHAR(64) NOT NULL,
    grain BIGINT NOT NULL,
    begins BIGINT NOT NULL,
    integration VARCHAR(64) NOT NULL,
    class VARCHAR(64) NOT NULL,
    failures BIGINT NOT NULL,
    PRIMARY KEY (org, grain, begins, integration, class)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- The last batch of sums of each session.
CREATE TABLE IF NOT EXISTS icp_rollup_seen (
    session BINARY(16) NOT NULL PRIMARY KEY,
    sequence BIGINT NOT NULL,
    at BIGINT NOT NULL
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
