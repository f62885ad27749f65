-- feed_renew: a writer lives: push out the feed's lease (if it has one) and its expiry, as an append does. Works on a full
-- Redis. A lapsed lease is granted again until the feed is ended (feed_lapse).
-- KEYS meta, lease, log
-- ARGV tenant, live_ttl_ms, the writer's creation ('': any)
-- Returns 1 it is open, 0 it has ended or was replaced by another one, -1 unknown.
-- @include expiry
-- @include feed_lease
local meta = redis.call('HMGET', KEYS[1], 'kind', 'tenant', 'status', 'lease_ms', 'config')
if meta[1] ~= 'feed' or meta[2] ~= ARGV[1] then return -1 end
if meta[3] ~= 'queued' then return 0 end
if ARGV[3] ~= '' and meta[5] ~= ARGV[3] then return 0 end
renew_feed_lease(KEYS[2], meta[4])
keep_stream(KEYS[3], KEYS[1], ARGV[2])
return 1
