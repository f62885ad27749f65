-- webhook_promise: owe a generation's webhook: it will be looked at until it is told, whoever ends the generation.
-- KEYS promised, due
-- ARGV generation id, most pending, look_ms
-- Returns 1 promised, 0 it was promised already, -1 as many are pending as may be.
if redis.call('ZSCORE', KEYS[1], ARGV[1]) or redis.call('ZSCORE', KEYS[2], ARGV[1]) then return 0 end
if redis.call('ZCARD', KEYS[1]) + redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[2]) then return -1 end
local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
redis.call('ZADD', KEYS[1], string.format('%.0f', now_ms + tonumber(ARGV[3])), ARGV[1])
return 1
