-- announce: a generation is about to be written down; from here on the sweep finds it, whatever becomes of its creator.
-- KEYS open
-- ARGV generation id
-- Returns 1 announced, 0 it is in the open index already.
local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
return redis.call('ZADD', KEYS[1], 'NX', string.format('%.0f', now_ms), ARGV[1])
