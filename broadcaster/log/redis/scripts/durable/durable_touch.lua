-- durable_touch: a Durable Stream was read: with a ttl it is kept for as long from now on.
-- KEYS log, meta, producers
-- ARGV none
-- Returns 1 if it has a ttl, else 0.
local meta = redis.call('HMGET', KEYS[2], 'ttl_s', 'deleted_ms')
if not meta[1] or meta[2] then return 0 end
for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, tonumber(meta[1]) * 1000) end
return 1
