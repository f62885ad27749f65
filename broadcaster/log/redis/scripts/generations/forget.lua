-- forget: undo a create whose job was refused (queue full), unless a worker has begun it or a repeated create relies on it
-- (see keep).
-- KEYS meta, viewers
-- ARGV (none)
-- Returns 1 removed, 0 left alone.
local meta = redis.call('HMGET', KEYS[1], 'status', 'attempts', 'kept')
if meta[1] ~= 'queued' or tonumber(meta[2] or 0) > 0 or meta[3] then return 0 end
redis.call('DEL', KEYS[1], KEYS[2])
return 1
