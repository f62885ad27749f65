-- key_drop: forget a caller's key, and let front-ends know that the list has changed.
-- KEYS keys, state
-- ARGV hex digest of the key, by how much the version rises
-- Returns 1 forgotten, 0 there was no such key.
local dropped = redis.call('HDEL', KEYS[1], ARGV[1])
if dropped > 0 then redis.call('HINCRBY', KEYS[2], 'version', ARGV[2]) end
return dropped
