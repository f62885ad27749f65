-- webhook_promise: promise a generation's webhook: it is checked until it is delivered, whichever process ends the
-- generation.
-- KEYS promised, due
-- ARGV generation id, most pending, check_ms
-- Returns 1 promised, 0 it was promised already, -1 as many are pending as may be.
-- @include clock
if redis.call('ZSCORE', KEYS[1], ARGV[1]) or redis.call('ZSCORE', KEYS[2], ARGV[1]) then return 0 end
if redis.call('ZCARD', KEYS[1]) + redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[2]) then return -1 end
local now_ms = read_clock()
redis.call('ZADD', KEYS[1], digits(now_ms + tonumber(ARGV[3])), ARGV[1])
return 1
