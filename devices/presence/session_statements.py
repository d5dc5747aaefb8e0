"""The SQL of `sessions`; each statement is for many devices at once."""

ENSURE_ROWS = """
    INSERT INTO devices_connectivity (
        device_id, connection_type, agent_version, session_id, connection_info, capabilities)
    SELECT uuid, 'nats', '', '', '{}', '{}' FROM devices_device WHERE uuid = ANY(%s)
    ORDER BY uuid
    ON CONFLICT DO NOTHING
"""

BEGIN = """
    INSERT INTO devices_brokersession AS known (
        server_id, client_id, device_id, address, started_at, end_reason)
    SELECT began.*, ''
    FROM unnest(%s::text[], %s::bigint[], %s::uuid[], %s::text[], %s::timestamptz[])
        AS began (server, client, device, address, at)
    JOIN devices_connectivity ON device_id = device
    -- One older than all that are kept has ended, or the broker's list names it.
    WHERE %s OR %s > (
        SELECT count(*) FROM devices_brokersession AS later
        WHERE later.device_id = device AND later.ended_at IS NOT NULL AND later.started_at > at)
    ON CONFLICT (server_id, client_id) DO UPDATE SET ended_at = NULL, end_reason = ''
    WHERE %s AND known.end_reason = ANY(%s)
"""

END = """
    UPDATE devices_brokersession AS known SET ended_at = ended.at, end_reason = ended.reason
    FROM unnest(%s::text[], %s::bigint[], %s::uuid[], %s::text[], %s::timestamptz[],
        %s::timestamptz[], %s::text[]) AS ended (server, client, device, address, start, at, reason)
    WHERE known.server_id = ended.server AND known.client_id = ended.client
        AND (known.ended_at IS NULL OR known.end_reason = ANY(%s))
"""

FORGET = """
    DELETE FROM devices_brokersession WHERE id IN (
        SELECT id FROM (
            SELECT id,
                row_number() OVER (PARTITION BY device_id ORDER BY started_at DESC) AS by_start,
                row_number() OVER (PARTITION BY device_id ORDER BY ended_at DESC) AS by_end
            FROM devices_brokersession WHERE device_id = ANY(%s) AND ended_at IS NOT NULL
        ) AS ended
        WHERE by_start > %s AND by_end > 1
    )
"""

SESSIONS = """
    SELECT device_id,
        min(started_at) FILTER (WHERE ended_at IS NULL),
        max(started_at),
        max(ended_at),
        COALESCE((array_agg(end_reason ORDER BY ended_at DESC)
            FILTER (WHERE ended_at IS NOT NULL))[1], ''),
        count(*) FILTER (WHERE ended_at > %s AND NOT end_reason = ANY(%s)),
        count(*) FILTER (WHERE ended_at IS NULL)
    FROM devices_brokersession WHERE device_id = ANY(%s)
    GROUP BY device_id
"""

UPDATE = """
    UPDATE devices_connectivity AS known SET
        presence = now.presence, presence_at = now.at, presence_by = now.by,
        last_seen_online = GREATEST(known.last_seen_online, now.seen),
        offline_due_at = now.due, unstable_until = now.unstable, connection_type = 'nats'
    FROM unnest(%s::uuid[], %s::text[], %s::timestamptz[], %s::text[], %s::timestamptz[],
        %s::timestamptz[], %s::timestamptz[])
        AS now (device, presence, at, by, seen, due, unstable)
    WHERE known.device_id = now.device
"""

POSTPONE = """
    UPDATE devices_connectivity AS known SET offline_due_at = %s
    WHERE offline_due_at IS NOT NULL AND (
        SELECT end_reason FROM devices_brokersession AS last
        WHERE last.device_id = known.device_id AND ended_at IS NOT NULL
        ORDER BY ended_at DESC LIMIT 1
    ) = ANY(%s)
"""
