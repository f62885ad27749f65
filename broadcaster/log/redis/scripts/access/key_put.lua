-- key_put: keep the record of a caller's key, and let front-ends know that the list has changed.
-- KEYS keys, state
-- ARGV hex digest of the key, record, most keys, by how much the version rises
-- Returns 1 added, 0 the record was there and is replaced, -1 there are as many keys as there may be.
local is_new = not redis.call('HGET', KEYS[1], ARGV[1])
if is_new and #redis.call('HKEYS', KEYS[1]) >= tonumber(ARGV[3]) then return -1 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('HINCRBY', KEYS[2], 'version', ARGV[4])
return is_new and 1 or 0
