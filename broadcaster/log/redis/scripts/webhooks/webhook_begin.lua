-- webhook_begin: count an attempt to deliver a generation's webhook before it is made, so that a worker that dies of it
-- has used it up.
-- KEYS meta
-- ARGV most attempts
-- Returns the number of the attempt, from 1; 0 there is nothing to deliver (gone, deleted, delivered, not over),
-- -1 the attempts are spent.
-- @include status
local meta = redis.call('HMGET', KEYS[1], 'status', 'webhook_state', 'webhook_attempts', 'webhook')
local status = meta[1]
if not meta[4] or meta[2] or not is_over(status) then return 0 end
if tonumber(meta[3] or 0) >= tonumber(ARGV[1]) then return -1 end
return redis.call('HINCRBY', KEYS[1], 'webhook_attempts', 1)
