-- feed_renew: a writer says that it lives: the feed's lease (if it has one) and its lives are pushed out, as an append
-- pushes them; works on a full Redis. A lease that has lapsed is granted again until the feed is ended (feed_lapse).
-- KEYS meta, lease, log
-- ARGV tenant, live_ttl_ms
-- Returns 1 it is open, 0 it has ended, -1 unknown.
-- @include heard
local META_OUTLIVES_LOG_MS = 3600000
local meta = redis.call('HMGET', KEYS[1], 'kind', 'tenant', 'status', 'lease_ms')
if meta[1] ~= 'feed' or meta[2] ~= ARGV[1] then return -1 end
if meta[3] ~= 'queued' then return 0 end
hear(KEYS[2], meta[4])
redis.call('PEXPIRE', KEYS[3], ARGV[2])
redis.call('PEXPIRE', KEYS[1], tonumber(ARGV[2]) + META_OUTLIVES_LOG_MS)
return 1
