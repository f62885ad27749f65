-- keep: a repeated create gave this generation its job: the create that wrote it must not undo it any more (see forget).
-- KEYS meta
-- ARGV (none)
-- Returns 1 kept, 0 it is gone or deleted.
local meta = redis.call('HMGET', KEYS[1], 'status', 'deleted_ms')
if not meta[1] or meta[2] then return 0 end
redis.call('HSET', KEYS[1], 'kept', 1)
return 1
