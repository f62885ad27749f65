-- webhook_begin: count an attempt to deliver a stream's webhook before it is made, so that a worker that dies of it
-- has used it up.
-- KEYS meta
-- ARGV most attempts, created_ms of the stream that was read
-- Returns the number of the attempt, from 1; 0 there is nothing to deliver (gone, deleted, delivered, not over, or another
-- stream has the id now), -1 the attempts are spent.
-- Works on a full Redis: only a script's first write is refused for memory, and HDEL needs none.
-- @include status
local meta = redis.call('HMGET', KEYS[1], 'status', 'webhook_state', 'webhook_attempts', 'webhook', 'created_ms')
local status = meta[1]
if not meta[4] or meta[2] or not is_over(status) or meta[5] ~= ARGV[2] then return 0 end
if tonumber(meta[3] or 0) >= tonumber(ARGV[1]) then return -1 end
redis.call('HDEL', KEYS[1], 'webhook_state') -- it has none
return redis.call('HINCRBY', KEYS[1], 'webhook_attempts', 1)
